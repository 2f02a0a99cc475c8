"""The glyph data set: the letters A to Z, drawn with jitter from Debian's fonts, split by font.

A classifier trained on it meets typefaces in the test split that it has never seen, so its accuracy has a real generalisation
gap and reacts to quantization. Images are drawn on demand (Pillow) and cached as 8-bit ``.npz``; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import string
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.zoo.fonts import faces

LETTERS = string.ascii_uppercase
# Images of each letter in each face. With Debian 12's fonts: 19,656 train, 3,328 validation and 10,920 test images.
IMAGES_PER_FACE = {"train": 12, "validation": 16, "test": 10}
_REVISION = 1  # part of the cache's key, raised when the drawing below changes

_SUPERSAMPLE = 2  # The warp draws at twice the size, and a box filter halves it.
_MASTER = 2  # The warp reads a master drawing twice as large as what it draws.


@dataclass(frozen=True)
class Jitter:
    """Ranges that every image is drawn from, uniformly; lengths are fractions of the image's side."""

    rotation: float = 0.5  # radians, either way
    shear: float = 0.35
    scale: tuple[float, float] = (0.5, 1.1)
    stretch: float = 0.25
    shift: float = 0.15
    blur: tuple[float, float] = (0.006, 0.025)
    weight: float = 0.35  # moves the threshold that sharpens the blurred stroke: thinner or bolder letters
    contrast: tuple[float, float] = (0.25, 0.95)
    noise: tuple[float, float] = (0.03, 0.18)  # standard deviation per pixel, on a scale of 0 (black) to 1 (white)


def normalize(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``[N, S, S]`` grey values 0..255 to the network's ``[N, 1, S, S]`` float32 in -1..1: ``(pixel - 127.5) / 127.5``."""
    return ((pixels.astype(np.float32) - 127.5) / 127.5)[:, None]


def glyphs(split: str, size: int = 28, seed: int = 0, cache_dir: Path | str | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images ``[N, 1, size, size]`` float32 in -1..1 (see `normalize`) and labels ``[N]`` int64 (0 = A ... 25 = Z), shuffled.

    The same `seed` gives the same letters, jitter and order at every size; the pixels also depend on the versions of the
    fonts and of Pillow. Every letter occurs equally often in each face.

    Args:
        split: ``train``, ``validation`` or ``test``; no typeface is in two of them.
        size: side in pixels, 8 or more.
        seed: decides jitter, noise and order.
        cache_dir: folder that keeps drawn sets; ``$XDG_CACHE_HOME/pyqinfer`` or ``~/.cache/pyqinfer`` if None.

    Raises:
        MissingFontsError: fonts are not installed; names the Debian packages.
        ValueError: unknown split, or size below 8.
    """
    if size < 8:
        raise ValueError(f"glyphs: size {size}: expected at least 8 pixels")
    fonts = faces(split)
    directory = Path(cache_dir) if cache_dir is not None else _user_cache()
    path = directory / f"glyphs-{split}-{size}-{seed}-{_digest(fonts)}.npz"
    cached = _read(path)
    if cached is None:
        cached = _draw_split(fonts, split, size, seed)
        _write(path, *cached)
    pixels, labels = cached
    return normalize(pixels), labels


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "pyqinfer"


def _digest(fonts: list[Path]) -> str:
    import PIL

    parts = [str(_REVISION), PIL.__version__, *(f"{font.stem}:{font.stat().st_size}" for font in fonts)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Pixels and labels of a cache file; None if it is absent, damaged or half-written."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return data["pixels"], data["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write a cache file atomically. Where that is not possible (read-only home) the set is drawn again next time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            np.savez(Path(scratch) / path.name, pixels=pixels, labels=labels)
            os.replace(Path(scratch) / path.name, path)


def _draw_split(fonts: list[Path], split: str, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    repeat = IMAGES_PER_FACE[split]
    blocks = [_draw_face(font, repeat, size, seed, Jitter()) for font in _progress(fonts, f"drawing glyphs ({split})")]
    pixels = np.concatenate(blocks)
    labels = np.tile(np.repeat(np.arange(len(LETTERS), dtype=np.int64), repeat), len(fonts))
    order = _generator(seed, split).permutation(len(labels))
    return pixels[order], labels[order]


def _generator(seed: int, *key: str) -> np.random.Generator:
    """A stream for each name, so that no image depends on which fonts were drawn before it."""
    return np.random.default_rng(list(hashlib.sha256("/".join([str(seed), *key]).encode()).digest()))


def _draw_face(font_path: Path, repeat: int, size: int, seed: int, jitter: Jitter) -> NDArray[np.uint8]:
    """Images of one face, ``[26 * repeat, size, size]``, letter by letter."""
    n = len(LETTERS) * repeat
    rng = _generator(seed, font_path.stem)
    affine = _affine_maps(rng, n, jitter)
    blur = rng.uniform(*jitter.blur, n) * size * _SUPERSAMPLE
    threshold = rng.uniform(0.5 - jitter.weight / 2, 0.5 + jitter.weight / 2, n)
    contrast = rng.uniform(*jitter.contrast, n)
    black = rng.uniform(0, 1 - contrast)
    noise = rng.uniform(*jitter.noise, n)
    ink = np.stack(
        [
            _warp(master, affine[i * repeat + j], size, blur[i * repeat + j], threshold[i * repeat + j])
            for i, master in enumerate(_masters(font_path, size))
            for j in range(repeat)
        ]
    )
    grey = black[:, None, None] + contrast[:, None, None] * ink + noise[:, None, None] * rng.standard_normal(ink.shape)
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def _affine_maps(rng: np.random.Generator, n: int, jitter: Jitter) -> NDArray[np.float64]:
    """``[n, 2, 3]``: where in the centred unit square a pixel of the image's centred unit square is read from."""
    angle = rng.uniform(-jitter.rotation, jitter.rotation, n)
    shear = rng.uniform(-jitter.shear, jitter.shear, n)
    scale = rng.uniform(*jitter.scale, n)
    stretch = np.exp(rng.uniform(-jitter.stretch, jitter.stretch, n))
    shift = rng.uniform(-jitter.shift, jitter.shift, (n, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    rotate = np.stack([cos, -sin, sin, cos], -1).reshape(n, 2, 2)
    zero = np.zeros(n)
    deform = np.stack([stretch, shear, zero, 1 / stretch], -1).reshape(n, 2, 2)
    linear = np.linalg.inv(scale[:, None, None] * rotate @ deform)
    return np.concatenate([linear, -linear @ shift[:, :, None]], axis=2)


def _masters(font_path: Path, size: int) -> list[Any]:
    """One large drawing (mode L, white on black) of each letter, its bounding box centred."""
    from PIL import Image, ImageDraw, ImageFont

    side = size * _SUPERSAMPLE * _MASTER
    font = ImageFont.truetype(font_path, size=round(0.95 * side), layout_engine=ImageFont.Layout.BASIC)
    masters = []
    for letter in LETTERS:
        image = Image.new("L", (side, side))
        left, top, right, bottom = font.getbbox(letter)
        ImageDraw.Draw(image).text(((side - left - right) / 2, (side - top - bottom) / 2), letter, fill=255, font=font)
        masters.append(image)
    return masters


def _warp(master: Any, affine: NDArray[np.float64], size: int, blur: float, threshold: float) -> NDArray[np.float64]:
    """The letter as ``[size, size]`` ink coverage 0..1: warped, its stroke made bolder or thinner, then box-filtered down."""
    from PIL import Image, ImageFilter

    side = size * _SUPERSAMPLE
    to_unit = np.array([[1 / side, 0, -0.5], [0, 1 / side, -0.5], [0, 0, 1]])
    coefficients = affine @ to_unit * master.width
    coefficients[:, 2] += master.width / 2
    image = master.transform((side, side), Image.Transform.AFFINE, tuple(coefficients.ravel()), Image.Resampling.BILINEAR)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(float(blur))), dtype=np.float64) / 255
    # The threshold is relative to the darkest ink, so that a hairline face gets thinner but never vanishes.
    sharp = np.clip((soft / max(soft.max(), 1e-6) - threshold) * 3 + 0.5, 0, 1)
    blocks: NDArray[np.float64] = sharp.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE).mean((1, 3))
    return blocks


def _progress(items: list[Path], description: str) -> Iterable[Path]:
    """A bar on stderr where rich is installed; it shows only when drawing takes longer than a moment."""
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return items
    return track(items, description=description, console=Console(stderr=True), transient=True)
