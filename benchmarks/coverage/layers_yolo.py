"""Detectors of YOLO's shape, with the decoding of their boxes: blocks of versions 8, 11 and 12 in a small network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act: nn.Module = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class _Bottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = _Conv(channels, channels, 3), _Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.cv2(self.cv1(x))
        return y


class _Attention(nn.Module):
    """Version 11's: queries, keys and values from one convolution, positions from a depthwise one over the values."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.width = heads, channels // heads
        self.key = self.width // 2
        self.qkv = _Conv(channels, channels + 2 * self.key * heads, act=False)
        self.proj, self.pe = _Conv(channels, channels, act=False), _Conv(channels, channels, 3, groups=channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(x).view(n, self.heads, self.key * 2 + self.width, h * w).split([self.key, self.key, self.width], 2)
        scores = ((q.transpose(-2, -1) @ k) * self.key**-0.5).softmax(-1)
        y = (v @ scores.transpose(-2, -1)).view(n, c, h, w) + self.pe(v.reshape(n, c, h, w))
        z: Tensor = x + self.proj(y)
        return z


class _AreaAttention(nn.Module):
    """Version 12's: the image is cut into areas that become rows of the batch, and each attends within itself."""

    def __init__(self, channels: int, heads: int = 2, areas: int = 4) -> None:
        super().__init__()
        self.heads, self.areas, self.width = heads, areas, channels // heads
        self.qkv, self.proj = _Conv(channels, 3 * channels, act=False), _Conv(channels, channels, act=False)
        self.pe = _Conv(channels, channels, 7, groups=channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = h * w // self.areas
        qkv = self.qkv(x).flatten(2).transpose(1, 2).reshape(n * self.areas, tokens, 3 * c)
        q, k, v = qkv.view(n * self.areas, tokens, self.heads, 3 * self.width).permute(0, 2, 3, 1).split([self.width] * 3, 2)
        scores = ((q.transpose(-2, -1) @ k) * self.width**-0.5).softmax(-1)
        y, v = (v @ scores.transpose(-2, -1)).permute(0, 3, 1, 2), v.permute(0, 3, 1, 2)
        y, v = (t.reshape(n, h * w, c).reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous() for t in (y, v))
        z: Tensor = x + self.proj(y + self.pe(v))
        return z


class _C2f(nn.Module):
    """Splits channels, keeps what every inner block gives, and joins it all."""

    def __init__(self, inputs: int, outputs: int, inner: Callable[[int], nn.Module], blocks: int = 2) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1, self.cv2 = _Conv(inputs, outputs), _Conv((2 + blocks) * half, outputs)
        self.m = nn.ModuleList(inner(half) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            y.append(block(y[-1]))
        z: Tensor = self.cv2(torch.cat(y, 1))
        return z


class _Sppf(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.pool = _Conv(channels, channels // 2), _Conv(channels * 2, channels), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        for _ in range(3):
            y.append(self.pool(y[-1]))
        z: Tensor = self.cv2(torch.cat(y, 1))
        return z


class _Detect(nn.Module):
    """Distances from distributions over 16 numbers, corners from distances, for three sizes of cells."""

    def __init__(self, channels: tuple[int, ...], classes: int = 5) -> None:
        super().__init__()
        self.classes = classes
        self.cv2 = nn.ModuleList(nn.Sequential(_Conv(c, 16, 3), nn.Conv2d(16, 64, 1)) for c in channels)
        self.cv3 = nn.ModuleList(nn.Sequential(_Conv(c, c, 3, groups=c), _Conv(c, 16), nn.Conv2d(16, classes, 1)) for c in channels)
        self.dfl = nn.Conv2d(16, 1, 1, bias=False)
        self.dfl.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)
        self.strides = (8.0, 16.0, 32.0)

    def forward(self, features: list[Tensor]) -> Tensor:
        n = features[0].shape[0]
        maps = [torch.cat((box(x), score(x)), 1) for x, box, score in zip(features, self.cv2, self.cv3, strict=True)]
        boxes, scores = torch.cat([x.view(n, 64 + self.classes, -1) for x in maps], 2).split((64, self.classes), 1)
        centers, strides = [], []
        for x, stride in zip(features, self.strides, strict=True):
            h, w = x.shape[-2:]
            sy, sx = torch.meshgrid(torch.arange(h, dtype=x.dtype) + 0.5, torch.arange(w, dtype=x.dtype) + 0.5, indexing="ij")
            centers.append(torch.stack((sx, sy), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), stride, dtype=x.dtype))
        anchors, steps = torch.cat(centers).transpose(0, 1).unsqueeze(0), torch.cat(strides).transpose(0, 1)
        distances = self.dfl(boxes.view(n, 4, 16, -1).transpose(2, 1).softmax(1)).view(n, 4, -1)
        near, far = distances.chunk(2, 1)
        first, last = anchors - near, anchors + far
        return torch.cat((torch.cat(((first + last) / 2, last - first), 1) * steps, scores.sigmoid()), 1)


class _Yolo(nn.Module):
    def __init__(self, block: Callable[[int, int], nn.Module], deep: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Conv(3, 8, 3, 2), _Conv(8, 16, 3, 2), block(16, 16))
        self.p3, self.p4 = nn.Sequential(_Conv(16, 32, 3, 2), block(32, 32)), nn.Sequential(_Conv(32, 32, 3, 2), deep(32, 32))
        self.p5 = nn.Sequential(_Conv(32, 64, 3, 2), _Sppf(64), deep(64, 64))
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.n4, self.n3, self.down = block(96, 32), block(64, 32), _Conv(32, 32, 3, 2)
        self.out4 = block(64, 32)
        self.detect = _Detect((32, 32, 64))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.n4(torch.cat((self.up(p5), p4), 1))
        n3 = self.n3(torch.cat((self.up(n4), p3), 1))
        y: Tensor = self.detect([n3, self.out4(torch.cat((self.down(n3), n4), 1)), p5])
        return y


class _V5(nn.Module):
    """Version 5's decoding: anchors, and a grid whose cells and scales are constants."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_Conv(3, 8, 6, 4), _C2f(8, 16, _Bottleneck), _Conv(16, 3 * 10))
        self.register_buffer("anchors", torch.tensor([[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]]).view(1, 3, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        n, _, h, w = y.shape
        y = y.view(n, 3, 10, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack((columns, rows), 2).expand(1, 3, h, w, 2) - 0.5
        xy, wh, scores = y.split((2, 2, 6), 4)
        return torch.cat(((xy * 2 + grid) * 4, (wh * 2) ** 2 * self.anchors, scores), 4).view(n, -1, 10)


def _mish(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Mish())


def _image() -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, 64, 64),)


class _Focus(nn.Module):
    """Every other pixel as channels, as versions 4 and 5 begin."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_Conv(12, 8, 3), _C2f(8, 8, _mish))

    def forward(self, x: Tensor) -> Tensor:
        pieces = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        y: Tensor = self.body(functional.pad(torch.cat(pieces, 1), (0, 0, 0, 0)))
        return y


ROWS: Mapping[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "YOLO 5, decoded": lambda: (_V5(), _image()),
    "YOLO 4 blocks": lambda: (_Focus(), _image()),
    "YOLO 8, decoded": lambda: (_Yolo(lambda i, o: _C2f(i, o, _Bottleneck), lambda i, o: _C2f(i, o, _Bottleneck)), _image()),
    "YOLO 11, decoded": lambda: (_Yolo(lambda i, o: _C2f(i, o, _Bottleneck), lambda i, o: _C2f(i, o, _Attention)), _image()),
    "YOLO 12, decoded": lambda: (_Yolo(lambda i, o: _C2f(i, o, _Bottleneck), lambda i, o: _C2f(i, o, _AreaAttention, 1)), _image()),
}
