"""Small networks around one operation that ordinary networks have: each a convolution, the operation, and a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


class _Around(nn.Module):
    """A layer in front of a function, and one behind it."""

    def __init__(self, front: nn.Module, function: Callable[[Tensor], Tensor], head: nn.Module) -> None:
        super().__init__()
        self.front, self.function, self.head = front, function, head

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.function(self.front(x)))
        return y


class _Query(nn.Module):
    """Attention whose queries are parameters, as heads that pool have."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.attention = nn.Parameter(torch.randn(1, 4, 16)), nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(self.query.expand(x.shape[0], -1, -1), x, x, need_weights=False)[0]
        return y


class _Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, key_padding_mask=padding)[0]
        return y


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        up = self.up(self.b(functional.max_pool2d(a, 2)))
        dy, dx = a.shape[2] - up.shape[2], a.shape[3] - up.shape[3]
        y: Tensor = self.last(torch.cat([a, functional.pad(up, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))], 1))
        return y


class _Gated(nn.Module):
    """WaveNet's block: dilated, causal, gated, with what it skips summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=2**i) for i in range(3))
        self.rest = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for i, (layer, rest) in enumerate(zip(self.layers, self.rest, strict=True)):
            a, b = layer(functional.pad(x, (2**i, 0))).chunk(2, 1)
            step = rest(a.tanh() * b.sigmoid())
            x, total = x + step, total + step
        return total


class _Statistics(nn.Module):
    """Speaker networks: a gate from means, then means and deviations weighted by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(8, 16, 5, padding=2, dilation=1), nn.ReLU(), nn.BatchNorm1d(16))
        self.gate, self.attention = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid()), nn.Conv1d(16, 16, 1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = x * self.gate(x.mean(-1))[..., None]
        weights = self.attention(x).softmax(2)
        mean = (x * weights).sum(2)
        deviation = ((x**2 * weights).sum(2) - mean**2).clamp(min=1e-6).sqrt()
        y: Tensor = self.head(torch.cat([mean, deviation], 1))
        return y


class _Sine(nn.Module):
    """Positions as sines of several frequencies, and layers with sines for activations (NeRF, SIREN)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3 * 9, 16), nn.Linear(16, 4)
        self.register_buffer("frequencies", 2.0 ** torch.arange(4))

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[..., None] * self.frequencies).flatten(-2)
        y: Tensor = self.last(torch.sin(self.first(torch.cat([x, angles.sin(), angles.cos()], -1))))
        return y


class _Style(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(4), nn.Conv2d(3, 8, 9), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)
        )
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(8, 3, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.body(x))
        return y


class _Lora(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.a, self.b = nn.Parameter(torch.randn(8, 16)), nn.Parameter(torch.randn(2, 16)), nn.Parameter(torch.randn(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight + 0.5 * self.b @ self.a)


def _pooled(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(outputs, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def _block(function: Callable[[Tensor], Tensor], channels: int = 8, size: int = 12) -> Callable[[], Any]:
    """``function`` of 8 channels, which makes ``channels`` of them."""
    return lambda: (_Around(nn.Conv2d(3, 8, 3, padding=1), function, _pooled(channels)), (torch.randn(2, 3, size, size),))


def _sound(*layers: nn.Module) -> Callable[[], Any]:
    return lambda: (nn.Sequential(*layers), (torch.randn(2, 8, 40),))


def _grid(x: Tensor) -> Tensor:
    grid = torch.stack(torch.meshgrid(torch.linspace(-1.2, 1, 9), torch.linspace(-1, 1, 7), indexing="ij"), -1)
    return functional.grid_sample(x, grid.expand(x.shape[0], -1, -1, -1), align_corners=True)


ROWS: Mapping[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "glu": _block(lambda x: functional.glu(x, 1), 4),
    "mish": _block(functional.mish),
    "adaptive_max_pool2d": _block(lambda x: functional.adaptive_max_pool2d(x, 3)),
    "adaptive_max_pool2d, windows that differ": _block(lambda x: functional.adaptive_max_pool2d(x, 5)),
    "max over an axis": _block(lambda x: torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1), 2),
    "grid_sample at constant places": _block(_grid),
    "unfold": _block(lambda x: functional.unfold(x, 3, padding=1).view(-1, 72, 12, 12), 72),
    "unfold and fold": _block(lambda x: functional.fold(functional.unfold(x, 4, stride=2) * 0.5, (12, 12), 4, stride=2)),
    "bicubic": _block(lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic")),
    "bicubic, aligned, to a size": _block(lambda x: functional.interpolate(x, (7, 20), mode="bicubic", align_corners=True)),
    "bilinear with antialias": _block(lambda x: functional.interpolate(x, (5, 7), mode="bilinear", antialias=True)),
    "area": _block(lambda x: functional.interpolate(x, (6, 4), mode="area")),
    "nearest by 1.5": _block(lambda x: functional.interpolate(x, scale_factor=1.5)),
    "nearest-exact by 1.5": _block(lambda x: functional.interpolate(x, scale_factor=1.5, mode="nearest-exact")),
    "einsum": _block(lambda x: torch.einsum("nchw,nchv->ncwv", x, x)),
    "addcmul, square": _block(lambda x: torch.addcmul(x, x, torch.square(x), value=0.1)),
    "repeat_interleave": _block(lambda x: x.repeat_interleave(2, 1), 16),
    "masked_fill": _block(lambda x: x.masked_fill(x > 1, 0.5)),
    "where": _block(lambda x: torch.where(x > 0, x, x * 0.1)),
    "cumsum": _block(lambda x: x.cumsum(2)),
    "constant on the left of matmul": _block(lambda x: torch.linspace(-1, 1, 60).view(5, 12) @ x),
    "pixel_shuffle": _block(lambda x: functional.pixel_shuffle(x, 2), 2),
    "channel_shuffle": _block(lambda x: functional.channel_shuffle(x, 4)),
    "local response norm": _block(lambda x: functional.local_response_norm(x, 3)),
    "hardshrink": _block(functional.hardshrink),
    "softshrink": _block(functional.softshrink),
    "threshold": _block(lambda x: functional.threshold(x, 0.1, -1.0)),
    "softsign, tanhshrink": _block(lambda x: functional.softsign(x) + functional.tanhshrink(x)),
    "sign, floor, round": _block(lambda x: x.sign() + x.floor() + x.round()),
    "norm pools": _block(lambda x: functional.lp_pool2d(x, 2, 2)),
    "pad with infinities in front of a max-pool": _block(
        lambda x: functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
    ),
    "max_unpool by places": _block(lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2)),
    "sort": _block(lambda x: x.sort(1).values),
    "topk": _block(lambda x: x.topk(4, 1).values, 4),
    "argmax": lambda: (_Around(nn.Conv2d(3, 8, 3), lambda x: x.argmax(1), nn.Identity()), (torch.randn(2, 3, 12, 12),)),
    "logsumexp": _block(lambda x: x.logsumexp(1, keepdim=True), 1),
    "variance": _block(lambda x: x.var(1, keepdim=True) + x.std((2, 3), keepdim=True)),
    "product": _block(lambda x: x.prod(1, keepdim=True), 1),
    "rotate by 90 degrees": _block(lambda x: x.rot90(1, (2, 3)).flip(3)),
    "triangle": _block(lambda x: x.tril()),
    "diagonal": _block(lambda x: x.diagonal(dim1=2, dim2=3)[..., None]),
    "meshgrid of sizes (CoordConv)": _block(
        lambda x: torch.cat([x, torch.linspace(-1, 1, x.shape[3]).expand(x.shape[0], 1, x.shape[2], -1)], 1), 9
    ),
    "depthwise, grouped, transposed": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 16, 3, padding=1, groups=4),
            nn.ConvTranspose2d(16, 8, 2, 2, groups=4),
            nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8),
        ),
        (torch.randn(2, 3, 12, 12),),
    ),
    "weight and spectral norms": lambda: (
        nn.Sequential(
            parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), parametrizations.spectral_norm(nn.Conv2d(8, 4, 3, padding="same"))
        ),
        (torch.randn(2, 3, 12, 12),),
    ),
    "LoRA": lambda: (_Lora(), (torch.randn(2, 16),)),
    "constant queries": lambda: (_Query(), (torch.randn(2, 7, 16),)),
    "key_padding_mask": lambda: (_Masked(), (torch.randn(2, 7, 16), torch.arange(7).expand(2, 7) > torch.tensor([[4], [5]]))),
    "U-Net": lambda: (_UNet(), (torch.randn(2, 3, 13, 14),)),
    "style transfer": lambda: (_Style(), (torch.randn(2, 3, 16, 16),)),
    "WaveNet": lambda: (_Gated(), (torch.randn(2, 8, 40),)),
    "speaker statistics": lambda: (_Statistics(), (torch.randn(2, 8, 40),)),
    "SIREN, NeRF": lambda: (_Sine(), (torch.randn(2, 5, 3),)),
    "1-D residual, pools": _sound(nn.Conv1d(8, 16, 7, 2, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2)),
    "1-D transposed (vocoder)": _sound(
        nn.Conv1d(8, 16, 7, padding=3), nn.LeakyReLU(0.1), nn.ConvTranspose1d(16, 8, 8, 4, 2), nn.Conv1d(8, 1, 7, padding=3), nn.Tanh()
    ),
    "1-D depthwise (Conformer)": _sound(
        nn.Conv1d(8, 16, 1), nn.GLU(1), nn.Conv1d(8, 8, 9, padding=4, groups=8), nn.BatchNorm1d(8), nn.SiLU()
    ),
    "1-D shuffled up": _sound(nn.Conv1d(8, 16, 3), nn.PReLU(16), nn.Upsample(scale_factor=2, mode="linear"), nn.Conv1d(16, 4, 3)),
    "bilinear layer": lambda: (_Pair(), (torch.randn(2, 8), torch.randn(2, 6))),
}


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Bilinear(8, 6, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z: Tensor = self.product(x, y)
        return z
