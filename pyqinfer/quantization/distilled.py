"""What distillation made: to calibrate with, to save, and to look at."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GAP = 2  # pixels between two pictures
# Share of pixels that a picture clips at either end: optimized images have a few extreme ones.
_SHOWN_TAILS = 0.005


@dataclass(frozen=True)
class Distilled:
    """``inputs``: one tensor ``[batch, ...]`` for each input of the model. ``losses``: one a step, the least of ``inputs``."""

    inputs: tuple[Tensor, ...]
    losses: NDArray[np.float64]

    @property
    def images(self) -> Tensor:
        """The first input, ``[N, C, H, W]`` of a network for images."""
        return self.inputs[0]

    @property
    def loss(self) -> float:
        """The loss of ``inputs``: the least of all steps."""
        return float(self.losses.min())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file (no pickle): ``input_0``, ``input_1``, ... and ``losses``."""
        arrays = {f"input_{i}": x.numpy() for i, x in enumerate(self.inputs)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, losses=self.losses, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Distilled:
        """Read a file written by :meth:`save`.

        Raises:
            OSError: it cannot be read. ValueError: not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                names = [f"input_{i}" for i in range(len(arrays.files) - 1)]
                return cls(tuple(torch.from_numpy(arrays[name]) for name in names), arrays["losses"])
        except KeyError as error:
            raise ValueError(f"{os.fspath(path)}: not a file of distilled data: {error}") from None

    def save_grid(self, path: str | os.PathLike[str], columns: int = 8, scale: int | None = None) -> None:
        """Draw the images as one PNG, each stretched to its own black and white.

        Args:
            path: where the picture goes.
            columns: how many images stand side by side.
            scale: side of the square that a pixel becomes; if None, the least that makes every image 64 pixels wide and high.

        Raises:
            ImportError: Pillow is not installed. ValueError: the first input holds no images.
        """
        try:
            from PIL import Image
        except ImportError:
            raise ImportError("drawing the distilled images needs Pillow: pip install pillow") from None
        if self.images.ndim != 4:
            raise ValueError(f"no images to draw: the first input has shape {tuple(self.images.shape)}, expected [N, C, H, W]")
        grid = _grid(_pixels(self.images.numpy()), columns)
        factor = scale or max(1, math.ceil(64 / min(self.images.shape[2:])))
        picture = Image.fromarray(grid)
        picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(path, format="PNG")


def _pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``[N, C, H, W]`` to ``[N, H, W, 3]``: three channels are colours, of any other number the mean is grey."""
    if images.shape[1] != 3:
        images = np.repeat(images.mean(1, keepdims=True), 3, axis=1)
    low, high = (np.quantile(images, q, axis=(1, 2, 3), keepdims=True) for q in (_SHOWN_TAILS, 1 - _SHOWN_TAILS))
    stretched = np.clip((images - low) / np.maximum(high - low, 1e-12), 0, 1)
    pixels: NDArray[np.uint8] = np.rint(255 * stretched).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels


def _grid(pictures: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    count, height, width, _ = pictures.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (height + _GAP), i % columns * (width + _GAP)
        grid[y : y + height, x : x + width] = picture
    return grid
