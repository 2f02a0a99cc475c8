"""Describes images in bytes: how a model's input looked to torch, for files whose input is uint8 NHWC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageInput:
    """The normalization that a model's float input has gone through: ``(byte/255 - mean) / std``, each operation in float32.

    ``mean``, ``std``: one number, or one per channel, in units of 0 to 1, as torchvision's ``Normalize`` takes them behind ``ToTensor``.

    Raises:
        ValueError: numbers that are not finite, or a ``std`` that is not positive.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        mean, std = (np.atleast_1d(np.asarray(v, np.float32)) for v in (self.mean, self.std))
        if mean.ndim != 1 or std.ndim != 1 or not np.isfinite(mean).all() or not np.isfinite(std).all() or not (std > 0).all():
            raise ValueError(f"mean and std must be finite, std positive, one number or one per channel; got {self.mean} and {self.std}")

    def parameters(self, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give mean and std of each channel, float32 [channels]. Raises ValueError if there are others than one or ``channels``."""
        mean, std = (np.atleast_1d(np.asarray(v, np.float32)) for v in (self.mean, self.std))
        if not {len(mean), len(std)} <= {1, channels}:
            raise ValueError(f"mean has {len(mean)} and std {len(std)} numbers for {channels} channels")
        return np.broadcast_to(mean, (channels,)), np.broadcast_to(std, (channels,))

    def values(self, channels: int) -> NDArray[np.float32]:
        """Give the float that each byte becomes, float32 [channels, 256]."""
        mean, std = self.parameters(channels)
        t = np.arange(256, dtype=np.float32) / np.float32(255)
        result: NDArray[np.float32] = (t - mean[:, None]) / std[:, None]
        return result

    def to_bytes(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        """Give the image [N, H, W, C] that is nearest to a normalized float input [N, C, H, W]."""
        mean, std = self.parameters(x.shape[1])
        t = (x.transpose(0, 2, 3, 1) * std + mean) * 255
        result: NDArray[np.uint8] = np.clip(np.rint(t), 0, 255).astype(np.uint8)
        return result

    def from_bytes(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the normalized float input [N, C, H, W] that an image [N, H, W, C] stands for."""
        values = self.values(pixels.shape[3])
        result: NDArray[np.float32] = np.stack([values[c][pixels[..., c]] for c in range(pixels.shape[3])], 1)
        return result
