"""Networks that are written for one kind of layer: recurrent ones, tables, three dimensions, sound, points, decoders of boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.coverage.case import Built, Case
from benchmarks.coverage.layers_blocks import ROWS as BLOCKS
from benchmarks.coverage.layers_yolo import ROWS as YOLO

_Row = Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], **options: bool | int) -> None:
        super().__init__()
        self.rnn = kind(8, 16, batch_first=True, **options)
        self.head = nn.Linear(32 if options.get("bidirectional") else 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x)[0][:, -1])
        return y


class _WithState(nn.Module):
    """A step of a stream: the state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(x, (hidden.transpose(0, 1), cell.transpose(0, 1)))
        return y, h.transpose(0, 1), c.transpose(0, 1)


class _Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(8, 16), nn.GRUCell(16, 16)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        state = h
        for i in range(x.shape[1]):
            h, c = self.lstm(x[:, i], (h, c))
            state = self.gru(h, state)
        return state


class _ConvLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(3 + 8, 4 * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 8, *x.shape[3:])
        for i in range(x.shape[1]):
            ingate, forget, cell, out = self.gates(torch.cat([x[:, i], h], 1)).chunk(4, 1)
            c = forget.sigmoid() * c + ingate.sigmoid() * cell.tanh()
            h = out.sigmoid() * c.tanh()
        return h


class _Crnn(nn.Module):
    """Text recognition: an image becomes a sequence of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.rnn = nn.LSTM(16 * 8, 16, bidirectional=True)
        self.head = nn.Linear(32, 11)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).flatten(1, 2).permute(2, 0, 1)
        return functional.log_softmax(self.head(self.rnn(y)[0]).transpose(0, 1), 2)


class _Dlrm(nn.Module):
    """Sparse features of a recommender (DLRM's shape): bags of rows, products of all pairs, a tower."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, 8, mode=mode) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, columns: Tensor) -> Tensor:
        x = self.bottom(dense)
        rows = torch.stack([x, *(table(columns[:, i]) for i, table in enumerate(self.tables))], 1)
        products = rows @ rows.transpose(1, 2)
        i, j = torch.tril_indices(4, 4, -1)
        y: Tensor = self.top(torch.cat([x, products[:, i, j]], 1)).sigmoid()
        return y


class _TabTransformer(nn.Module):
    """Columns of categories as tokens of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16)
        self.register_buffer("offset", torch.tensor([0, 10, 30]))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(3 * 16 + 4, 2)

    def forward(self, columns: Tensor, numbers: Tensor) -> Tensor:
        x = self.encoder(self.embedding(columns + self.offset))
        y: Tensor = self.head(torch.cat([x.flatten(1), self.norm(numbers)], 1))
        return y


class _FtTransformer(nn.Module):
    """Numbers as tokens too (a weight and a bias each), and a token of its own in front that the head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.first = (nn.Parameter(torch.randn(*shape)) for shape in ((4, 16), (4, 16), (1, 1, 16)))
        self.embeddings = nn.ModuleList(nn.Embedding(n, 16) for n in (10, 20, 30))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True), 2)
        self.head = nn.Linear(16, 2)

    def forward(self, columns: Tensor, numbers: Tensor) -> Tensor:
        tokens = torch.stack([table(columns[:, i]) for i, table in enumerate(self.embeddings)], 1)
        x = torch.cat([self.first.expand(columns.shape[0], -1, -1), numbers[..., None] * self.weight + self.bias, tokens], 1)
        y: Tensor = self.head(self.encoder(x)[:, 0])
        return y


class _DeepFm(nn.Module):
    """Factors of pairs by the square of the sum, a linear part, a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.factors, self.linear = nn.Embedding(60, 8), nn.Embedding(60, 1)
        self.register_buffer("offset", torch.tensor([0, 10, 30]))
        self.tower = nn.Sequential(nn.Linear(24, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, columns: Tensor) -> Tensor:
        places = columns + self.offset
        rows = self.factors(places)
        pairs = 0.5 * (rows.sum(1).square() - rows.square().sum(1)).sum(1, keepdim=True)
        y: Tensor = (self.linear(places).sum(1) + pairs + self.tower(rows.flatten(1))).sigmoid()
        return y


class _TwoTowers(nn.Module):
    """Users and items, whose histories are padded with zeros that count for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 16), nn.Embedding(60, 16, padding_idx=0)
        self.user, self.item = nn.Linear(32, 16), nn.Linear(16, 16)

    def forward(self, user: Tensor, history: Tensor, item: Tensor) -> Tensor:
        seen = (history != 0).unsqueeze(-1).to(torch.float32)
        mean = (self.items(history) * seen).sum(1) / seen.sum(1).clamp(min=1)
        left = functional.normalize(self.user(torch.cat([self.users(user), mean], 1)))
        right = functional.normalize(self.item(self.items(item)))
        return (left * right).sum(1)


class _Volumes(nn.Module):
    """A network over volumes that goes down by a pool and up again (3-D U-Net's shape)."""

    def __init__(self, pool: nn.Module, up: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), norm, nn.ReLU())
        self.down, self.up = nn.Sequential(pool, nn.Conv3d(8, 8, 3, padding=1), nn.ReLU()), up
        self.last = nn.Conv3d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y: Tensor = self.last(torch.cat([x, self.up(self.down(x))], 1))
        return y


class _PointNet(nn.Module):
    """Points in no order: the same layers for each, the largest of each feature, and a matrix that turns the points."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 9)
        )
        self.body = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 1))
        self.head = nn.Linear(32, 5)

    def forward(self, points: Tensor) -> Tensor:
        turn = self.turn(points).view(-1, 3, 3) + torch.eye(3)
        turned = torch.bmm(points.transpose(2, 1), turn).transpose(2, 1)
        y: Tensor = self.head(self.body(turned).max(2)[0])
        return y


class _GraphLayers(nn.Module):
    """Graph convolution and attention over a dense adjacency that is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)
        self.left, self.right = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        x = functional.relu(self.first(edges @ nodes / edges.sum(-1, keepdim=True).clamp(min=1)))
        scores = functional.leaky_relu(self.left(x) + self.right(x).transpose(1, 2), 0.2).masked_fill(edges == 0, -1e9)
        y: Tensor = self.second(scores.softmax(-1) @ x)
        return y


class _Spatial(nn.Module):
    """A spatial transformer: a network says from where in the image the next one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(nn.Conv2d(1, 4, 5), nn.MaxPool2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 6), nn.Tanh())
        self.what = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        grid = functional.affine_grid(self.where(x).view(-1, 2, 3), list(x.shape), align_corners=False)
        y: Tensor = self.what(functional.grid_sample(x, grid, align_corners=False))
        return y


def _images(size: int = 32, channels: int = 3) -> tuple[Tensor, ...]:
    return (torch.randn(2, channels, size, size),)


def _steps() -> tuple[Tensor, ...]:
    return (torch.randn(2, 6, 8),)


def _columns() -> Tensor:
    return torch.tensor([[1, 2, 1], [5, 7, 29]])


def _volume(pool: nn.Module, up: nn.Module, norm: nn.Module) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _Volumes(pool, up, norm), (torch.randn(2, 1, 8, 8, 8),)


_ROWS: Mapping[str, _Row] = {
    "LSTM": lambda: (_Recurrent(nn.LSTM), _steps()),
    "LSTM, both ways, stacked": lambda: (_Recurrent(nn.LSTM, bidirectional=True, num_layers=2), _steps()),
    "LSTM of quantize_dynamic": lambda: (torch.ao.quantization.quantize_dynamic(_Recurrent(nn.LSTM).eval()), _steps()),
    "GRU": lambda: (_Recurrent(nn.GRU), _steps()),
    "GRU, both ways, stacked": lambda: (_Recurrent(nn.GRU, bidirectional=True, num_layers=2), _steps()),
    "RNN": lambda: (_Recurrent(nn.RNN), _steps()),
    "RNN with ReLU": lambda: (_Recurrent(nn.RNN, nonlinearity="relu"), _steps()),
    "LSTM, state in and out": lambda: (_WithState(), (*_steps(), torch.randn(2, 1, 16), torch.randn(2, 1, 16))),
    "LSTMCell, GRUCell": lambda: (_Cells(), (*_steps(), torch.randn(2, 16), torch.randn(2, 16))),
    "ConvLSTM": lambda: (_ConvLSTM(), (torch.randn(2, 4, 3, 8, 8),)),
    "CRNN": lambda: (_Crnn(), (torch.randn(2, 1, 16, 32),)),
    "EmbeddingBag, DLRM": lambda: (_Dlrm("sum"), (torch.randn(2, 4), torch.randint(0, 50, (2, 3, 5)))),
    "EmbeddingBag of means": lambda: (_Dlrm("mean"), (torch.randn(2, 4), torch.randint(0, 50, (2, 3, 5)))),
    "EmbeddingBag of largest": lambda: (_Dlrm("max"), (torch.randn(2, 4), torch.randint(0, 50, (2, 3, 5)))),
    "TabTransformer": lambda: (_TabTransformer(), (_columns(), torch.randn(2, 4))),
    "FT-Transformer": lambda: (_FtTransformer(), (_columns(), torch.randn(2, 4))),
    "DeepFM": lambda: (_DeepFm(), (_columns(),)),
    "two towers": lambda: (_TwoTowers(), (torch.tensor([3, 9]), torch.tensor([[4, 9, 0, 0], [1, 2, 3, 59]]), torch.tensor([7, 8]))),
    "3-D U-Net": lambda: _volume(nn.MaxPool3d(2), nn.ConvTranspose3d(8, 8, 2, 2), nn.BatchNorm3d(8)),
    "3-D U-Net, trilinear": lambda: _volume(nn.AvgPool3d(2), nn.Upsample(scale_factor=2, mode="trilinear"), nn.InstanceNorm3d(8)),
    "3-D classifier": lambda: (
        nn.Sequential(nn.Conv3d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)),
        (torch.randn(2, 1, 8, 8, 8),),
    ),
    "3-D, largest of all": lambda: (
        nn.Sequential(nn.Conv3d(1, 8, 3, 2, 1), nn.ELU(), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 3)),
        (torch.randn(2, 1, 8, 8, 8),),
    ),
    "PointNet": lambda: (_PointNet(), (torch.randn(2, 3, 20),)),
    "graph layers": lambda: (_GraphLayers(), (torch.randn(2, 6, 8), (torch.rand(2, 6, 6) > 0.5).float())),
    "spatial transformer": lambda: (_Spatial(), _images(20, 1)),
    "TransformerEncoder": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False),
        (torch.randn(2, 10, 32),),
    ),
    "Transformer": lambda: (nn.Transformer(32, 4, 1, 1, 64, batch_first=True), (torch.randn(2, 10, 32), torch.randn(2, 5, 32))),
    **YOLO,
    **BLOCKS,
}


def _build(name: str) -> Built:
    torch.manual_seed(0)
    model, examples = _ROWS[name]()
    return Built(model.eval(), examples)


def cases() -> list[Case]:
    """Every row as a case."""
    return [Case("layers", name, partial(_build, name)) for name in _ROWS]
