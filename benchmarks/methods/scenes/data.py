"""Scenes: letters of several sizes and grey values on a noisy ground, with the box and the mask of each, drawn by script.

Typefaces are split as those of the glyphs are, so a network meets letters in the test scenes whose typeface it has never seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.zoo.fonts import faces
from pyqinfer.zoo.glyphs import normalize

LETTERS = "AEHOSX"
SIZE = 64
MOST = 4  # letters in a scene; arrays of boxes have so many places
_HEIGHTS = (18, 34)  # of a letter's font, pixels
_TURN = 15.0  # degrees, either way
_OVERLAP = 0.05  # the largest IoU of two boxes in one scene
_TRIES = 20


@dataclass(frozen=True)
class Scenes:
    """Images with what is in them.

    Args:
        images: ``[N, 1, SIZE, SIZE]`` float32 in -1..1.
        boxes: ``[N, MOST, 4]`` float32, x0, y0, x1, y1 in pixels; zeros where there is no letter.
        labels: ``[N, MOST]`` int64, index into ``LETTERS``; -1 where there is no letter.
        masks: ``[N, SIZE, SIZE]`` int64: 0 is the ground, k + 1 is letter k.
    """

    images: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


def scenes(split: str, count: int, seed: int = 0) -> Scenes:
    """The first ``count`` scenes of a split (``train``, ``validation`` or ``test``). Scene i depends on split, seed and i alone.

    Raises:
        MissingFontsError: fonts are not installed; names the Debian packages.
    """
    fonts = faces(split)
    pixels = np.zeros((count, SIZE, SIZE), np.uint8)
    boxes = np.zeros((count, MOST, 4), np.float32)
    labels = np.full((count, MOST), -1, np.int64)
    masks = np.zeros((count, SIZE, SIZE), np.int64)
    for i in range(count):
        key = hashlib.sha256(f"scenes/{split}/{seed}/{i}".encode()).digest()
        pixels[i] = _draw(np.random.default_rng(list(key)), fonts, boxes[i], labels[i], masks[i])
    return Scenes(normalize(pixels), boxes, labels, masks)


def overlaps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of each of the boxes ``a`` [n, 4] with each of ``b`` [m, 4]: [n, m]; 0 where both are empty."""
    first = np.maximum(a[:, None, :2], b[None, :, :2])
    last = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(last - first, 0, None).prod(2).astype(np.float64)
    areas = [np.clip(x[:, 2:] - x[:, :2], 0, None).prod(1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _draw(
    rng: np.random.Generator, fonts: list[Path], boxes: NDArray[np.float32], labels: NDArray[np.int64], mask: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """One scene's grey values; what is in it is written into the arrays."""
    ground = rng.uniform(0.1, 0.6)
    grey = np.full((SIZE, SIZE), ground)
    placed = 0
    for _ in range(rng.integers(1, MOST + 1)):
        for _ in range(_TRIES):
            letter = int(rng.integers(len(LETTERS)))
            ink = _ink(rng, fonts[int(rng.integers(len(fonts)))], LETTERS[letter])
            height, width = ink.shape
            top, left = (int(rng.integers(SIZE - side + 1)) for side in (height, width))
            box = np.array([left, top, left + width, top + height], np.float32)
            if placed and overlaps(box[None], boxes[:placed]).max() > _OVERLAP:
                continue
            shade = ground + rng.choice([-1, 1]) * rng.uniform(0.25, 0.5)
            shade = shade if 0 <= shade <= 1 else 2 * ground - shade
            window = np.s_[top : top + height, left : left + width]
            grey[window] += ink * (shade - grey[window])
            mask[window][ink > 0.5] = letter + 1
            boxes[placed], labels[placed] = box, letter
            placed += 1
            break
    noisy = grey + rng.uniform(0.02, 0.08) * rng.standard_normal(grey.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _ink(rng: np.random.Generator, font: Path, letter: str) -> NDArray[np.float64]:
    """A turned letter's coverage 0..1, cropped to where it is more than a half."""
    from PIL import Image, ImageDraw, ImageFont

    side = 2 * _HEIGHTS[1]
    face = ImageFont.truetype(font, size=int(rng.integers(*_HEIGHTS)), layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (side, side))
    left, top, right, bottom = face.getbbox(letter)
    ImageDraw.Draw(image).text(((side - left - right) / 2, (side - top - bottom) / 2), letter, fill=255, font=face)
    turned = np.asarray(image.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR), np.float64) / 255
    turned /= max(turned.max(), 1e-6)  # hairlines of a light face have no full pixel
    rows, columns = (np.flatnonzero((turned > 0.5).any(axis)) for axis in (1, 0))
    return turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
