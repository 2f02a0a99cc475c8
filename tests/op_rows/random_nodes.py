"""Hypothesis strategies that random nodes of all families are drawn with."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from op_rows.one_op import Quant
from op_rows.stream import CLAMP, NONE, RELU, SPECIAL


@st.composite
def quants(draw: st.DrawFn) -> Quant:
    qmin = draw(st.sampled_from([0, 0, 1, 20]))
    qmax = draw(st.sampled_from([255, 15 + qmin, 3 + qmin]))
    scale = np.float32(draw(st.floats(2.0**-13, 8, width=32)))
    return Quant(float(scale), draw(st.integers(qmin, qmax)), qmin, qmax)


def codes(rng: np.random.Generator, q: Quant, *shape: int) -> np.ndarray:
    return rng.integers(q.qmin, q.qmax + 1, shape, np.uint8)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape).astype(np.float32) * np.float32(2) ** rng.integers(-6, 7, shape).astype(np.float32)
    # Some with few bits (exact ties), some special.
    short_bits = (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    x = np.where(rng.random(shape) < 0.3, short_bits, x)
    return np.where(rng.random(shape) < 0.03, rng.choice(np.array(SPECIAL, np.float32), shape), x)


def tensor(rng: np.random.Generator, q: Quant | None, *shape: int) -> tuple[np.ndarray, Quant | None]:
    return (floats(rng, *shape) if q is None else codes(rng, q, *shape)), q


def generator(draw: st.DrawFn) -> np.random.Generator:
    """Elements come from here, so that hypothesis shrinks shapes and attributes only."""
    seed: Any = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed)


sizes = st.integers(1, 9)
maybe_quants = st.none() | quants()
activations = st.sampled_from([NONE, RELU, CLAMP])
