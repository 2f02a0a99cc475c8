"""Networks that are written for one kind of layer: recurrent ones, tables, three dimensions, decoders of boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.coverage.case import Built, Case


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], bidirectional: bool = False, layers: int = 1) -> None:
        super().__init__()
        self.rnn = kind(8, 16, num_layers=layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(32 if bidirectional else 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x)[0][:, -1])
        return y


class _Bag(nn.Module):
    """Sparse features of a recommender (DLRM's shape): bags of rows, products of all pairs, a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, 8, mode="sum") for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, columns: Tensor) -> Tensor:
        x = self.bottom(dense)
        rows = torch.stack([x, *(table(columns[:, i]) for i, table in enumerate(self.tables))], 1)
        products = rows @ rows.transpose(1, 2)
        i, j = torch.tril_indices(4, 4, -1)
        y: Tensor = self.top(torch.cat([x, products[:, i, j]], 1)).sigmoid()
        return y


class _Table(nn.Module):
    """Columns of categories as tokens of a transformer (TabTransformer's shape)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16)
        self.register_buffer("offset", torch.tensor([0, 10, 30]))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(3 * 16 + 4, 2)

    def forward(self, columns: Tensor, numbers: Tensor) -> Tensor:
        x = self.encoder(self.embedding(columns + self.offset))
        y: Tensor = self.head(torch.cat([x.flatten(1), numbers], 1))
        return y


class _Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 8, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x).mean((2, 3, 4))
        return y


class _Boxes(nn.Module):
    """A head with its decoding (YOLO's shape): a grid from the features' size, distributions over distances, strides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU())
        self.boxes = nn.Conv2d(16, 4 * 8, 1)
        self.scores = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        n, _, h, w = features.shape
        y, x_ = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        centers = torch.stack([x_, y], 0).reshape(1, 2, h * w)
        boxes = self.boxes(features).reshape(n, 4, 8, h * w).softmax(2)
        distances = (boxes * torch.arange(8.0).reshape(1, 1, 8, 1)).sum(2)
        corners = torch.cat([centers - distances[:, :2], centers + distances[:, 2:]], 1) * 4
        return torch.cat([corners, self.scores(features).reshape(n, 5, h * w).sigmoid()], 1)


def _with(model: nn.Module, *examples: Tensor) -> Callable[[], Built]:
    return lambda: Built(model.eval(), examples)


_ROWS: Mapping[str, Callable[[], Built]] = {
    "LSTM": _with(_Recurrent(nn.LSTM), torch.randn(2, 6, 8)),
    "LSTM, both ways, stacked": _with(_Recurrent(nn.LSTM, True, 2), torch.randn(2, 6, 8)),
    "GRU": _with(_Recurrent(nn.GRU), torch.randn(2, 6, 8)),
    "RNN": _with(_Recurrent(nn.RNN), torch.randn(2, 6, 8)),
    "EmbeddingBag, DLRM": _with(_Bag(), torch.randn(2, 4), torch.randint(0, 50, (2, 3, 5))),
    "TabTransformer": _with(_Table(), torch.tensor([[1, 12, 31], [5, 17, 59]]) - torch.tensor([0, 10, 30]), torch.randn(2, 4)),
    "Conv3d": _with(_Volumes(), torch.randn(2, 1, 8, 8, 8)),
    "YOLO head with decoding": _with(_Boxes(), torch.randn(2, 3, 32, 32)),
    "TransformerEncoder": _with(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False), torch.randn(2, 10, 32)
    ),
}


def cases() -> list[Case]:
    """Every row as a case."""
    return [Case("layers", name, build) for name, build in _ROWS.items()]
