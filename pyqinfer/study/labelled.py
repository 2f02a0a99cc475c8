"""Labelled images for accuracy: arrays of an ``.npz`` file, or a folder of images per class, as ImageNet's validation set is unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_EXPECTED = "expected labelled images, an .npz file with x (images) and y (classes), or a folder with one folder per class"

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
# What torchvision's and most other checkpoints for ImageNet are trained with, on a scale of 0 to 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Labelled(Protocol):
    """Images with their classes, read batch by batch."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[tuple[Images, Labels]]:
        """``[n, ...]`` float32 and ``[n]`` int64, n = `size` but for the last batch; the same order every time."""
        ...


@dataclass(frozen=True)
class Arrays:
    """Images ``[N, ...]`` float32 and labels ``[N]`` int64 in memory.

    Raises:
        TypeError, ValueError: another dtype, or different lengths.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.float32:
            raise TypeError(f"images: expected float32, got {self.images.dtype}")
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise TypeError(f"labels: expected integers, got {self.labels.dtype}")
        if self.labels.ndim != 1 or len(self.images) != len(self.labels) or not len(self.labels):
            raise ValueError(f"expected as many labels as images, got shapes {self.images.shape} and {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[tuple[Images, Labels]]:
        for start in range(0, len(self), size):
            yield self.images[start : start + size], self.labels[start : start + size].astype(np.int64)

    def item(self, index: int) -> tuple[Images, int]:
        """One image and its class."""
        return self.images[index], int(self.labels[index])

    def first(self, count: int | None) -> Arrays:
        """The first `count` images; all for None."""
        return Arrays(self.images[:count], self.labels[:count])


class ClassFolder:
    """A folder with one folder of images per class; classes are numbered in the order of their names.

    Images are read on demand, scaled so that the shorter side is ``size * 256 / 224``, cropped to the centre and normalized.

    Args:
        directory: such as ImageNet's ``val`` with its 1000 folders ``n01440764`` ...
        size: side of the square that the network sees, pixels.
        limit: at most so many images, spread evenly over the classes.
        mean, std: per channel, on a scale of 0 to 1.

    Raises:
        OSError: it cannot be read. ValueError: no images in it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        size: int = 224,
        limit: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        classes = sorted(entry for entry in Path(directory).iterdir() if entry.is_dir())
        found = [(path, label) for label, folder in enumerate(classes) for path in sorted(folder.iterdir())]
        self.files = [(path, label) for path, label in found if path.suffix.lower() in _SUFFIXES]
        if not self.files:
            raise ValueError(
                f"{os.fspath(directory)}: expected a folder of images for each class, found no image in {len(classes)} folders"
            )
        if limit is not None and limit < len(self.files):
            self.files = [self.files[i * len(self.files) // limit] for i in range(limit)]
        self.classes = [folder.name for folder in classes]
        self.size = size
        self._mean, self._std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int) -> Iterator[tuple[Images, Labels]]:
        for start in range(0, len(self), size):
            part = self.files[start : start + size]
            yield np.stack([self._read(path) for path, _ in part]), np.array([label for _, label in part], np.int64)

    def item(self, index: int) -> tuple[Images, int]:
        """One image and its class."""
        path, label = self.files[index]
        return self._read(path), label

    def _read(self, path: Path) -> Images:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                pixels = _square(image.convert("RGB"), self.size)
        except UnidentifiedImageError:
            raise ValueError(f"{path}: not an image that Pillow can read") from None
        scaled = (np.asarray(pixels, np.float32) / 255 - self._mean) / self._std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _square(image: Any, size: int) -> Any:
    """The middle square of `size` pixels, after scaling the shorter side to 8/7 of that."""
    from PIL import Image

    shorter = round(size * 256 / 224)
    scale = shorter / min(image.size)
    width, height = (max(shorter, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def load_labelled(path: str | os.PathLike[str]) -> Arrays:
    """An ``.npz`` file with ``x`` (float32 images) and ``y`` (integer classes).

    Raises:
        OSError: it cannot be read. ValueError: not such a file; TypeError: another dtype.
    """
    try:
        data = np.load(path, allow_pickle=False)
    except ValueError:
        raise ValueError(f"{os.fspath(path)}: {_EXPECTED}; this is no file of numbers") from None
    if isinstance(data, np.ndarray):
        raise ValueError(f"{os.fspath(path)}: {_EXPECTED}; this is one array without labels: np.savez(path, x=images, y=classes)")
    with data:
        missing = [name for name in ("x", "y") if name not in data.files]
        if missing:
            raise ValueError(f"{os.fspath(path)}: {_EXPECTED}; found {', '.join(data.files) or 'none'}")
        return Arrays(data["x"], data["y"])
