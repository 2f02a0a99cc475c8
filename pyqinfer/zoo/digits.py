"""scikit-learn's handwritten digits: 1,797 images of 8x8, installed with the library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHARES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


def digits(split: str, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images ``[N, 1, 8, 8]`` float32 in -1..1 (``grey / 8 - 1``, grey 0..16) and labels ``[N]`` int64 0..9.

    `split` is ``train`` (1,078 images), ``validation`` (360) or ``test`` (359): shares of one permutation drawn from `seed`.

    Raises:
        ValueError: unknown split.
        ImportError: scikit-learn is not installed.
    """
    if split not in _SHARES:
        raise ValueError(f"split {split!r}: expected one of {', '.join(_SHARES)}")
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images.astype(np.float32) / 8 - 1)[:, None]
    order = np.random.default_rng(seed).permutation(len(images))
    first, last = (round(share * len(images)) for share in _SHARES[split])
    return images[order[first:last]], data.target[order[first:last]].astype(np.int64)
