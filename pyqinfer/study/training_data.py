"""Labelled images as batches for training: shuffled, and moved or mirrored at random where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyqinfer.study.labelled import Arrays, ClassFolder, load_labelled

Images = Arrays | ClassFolder


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image at random.

    Args:
        shift: it is moved by up to so many pixels along both axes, the edge filled with zeros (a crop of the padded image).
        flip: one in two is mirrored left to right.
    """

    shift: int = 0
    flip: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """``images``: [N, C, H, W]. Draws from torch's global generator."""
        if self.flip:
            mirrored = torch.rand(len(images)) < 0.5
            images = torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)
        if self.shift:
            n, _, height, width = images.shape
            padded = F.pad(images, [self.shift] * 4)
            top, left = torch.randint(2 * self.shift + 1, (2, n))
            rows, columns = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
            images = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
        return images


class _Items(Dataset[Any]):
    def __init__(self, data: Images) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._data.item(index)
        return torch.from_numpy(image), label


def load_images(path: Path, size: int) -> Images:
    """An ``.npz`` file with x and y, or a folder with one folder of images per class; ``size``: side of a folder's images in pixels."""
    return ClassFolder(path, size=size) if path.is_dir() else load_labelled(path)


def load_splits(path: Path, validation: Path | None, size: int) -> tuple[Images, Images | None]:
    """Images to train on and to look at, the latter None where there are none.

    Args:
        path: as for :func:`load_images`, or a folder that holds folders ``train`` and, perhaps, ``val``, as ImageNet is unpacked.
        validation: the images to look at; None: those of ``val``.
    """
    if path.is_dir() and (path / "train").is_dir():
        inner = path / "val"
        path, validation = path / "train", validation or (inner if inner.is_dir() else None)
    return load_images(path, size), None if validation is None else load_images(validation, size)


def training_batches(data: Images, batch: int, augmentation: Augmentation) -> DataLoader[Any]:
    """Shuffled batches. A last one of few images, whose statistics would be poor, is left out where there are others."""

    def collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images, labels = zip(*items, strict=True)
        return augmentation(torch.stack(images)), torch.tensor(labels)

    return DataLoader(_Items(data), batch, shuffle=True, drop_last=len(data) >= batch, collate_fn=collate)


def validation_batches(data: Images, batch: int) -> DataLoader[Any]:
    """Batches in their order."""
    return DataLoader(_Items(data), batch)
