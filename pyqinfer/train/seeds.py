"""Random numbers of a training: one seed decides all generators, and the caller's generators come back as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_PRIME = 1_000_003


@contextmanager
def kept_generators() -> Iterator[None]:
    """Restore the global generators of torch, NumPy and ``random`` at the end."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002  (the generator that users' augmentation draws from)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def seed_epoch(seed: int, epoch: int, loader: Any = None) -> None:
    """Seed the global generators, and that of a data loader which has its own, for one epoch.

    An epoch depends on the seed and its number alone, so that a training that is resumed sees the batches that it would have seen.
    """
    value = (seed * _PRIME + epoch) % 2**32
    torch.manual_seed(value)
    np.random.seed(value)  # noqa: NPY002
    random.seed(value)
    samplers = (loader, getattr(loader, "sampler", None))
    for generator in {id(g): g for holder in samplers if (g := getattr(holder, "generator", None)) is not None}.values():
        if isinstance(generator, torch.Generator):
            generator.manual_seed(value)
