"""What the modules of random networks are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from op_rows.family import Draw


def one_of(draw: Draw, *choices: Any) -> Any:
    return draw(st.sampled_from(choices))


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def fits(size: Sequence[int], kernel: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether a window fits into a padded image, axis by axis."""
    return all(n + 2 * p > d * (k - 1) for n, k, p, d in zip(size, kernel, padding, dilation, strict=True))


def pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    return draw(st.tuples(st.integers(low, high), st.integers(low, high)))
