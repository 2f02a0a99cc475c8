"""Shape rules over dimensions that may be numbers, symbols or unknown (None)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from pyqinfer.ir import Dim, Shape


def window_output(size: Dim, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> Dim:
    """Output length of a sliding window; ``padding`` is the sum of both sides, equal ones where ``ceil_mode``."""
    reach = dilation * (kernel - 1)
    if not isinstance(size, int):
        return size if stride == 1 and padding == reach else None
    span = size + padding - reach - 1
    output = span // stride + 1
    # torch drops a last window that would start in the padding behind the input.
    if ceil_mode and span % stride and output * stride < size + padding // 2:
        output += 1
    return output


def count(shape: Sequence[Dim]) -> int | None:
    """Number of elements, or None if a dimension is not a number."""
    numbers = [d for d in shape if isinstance(d, int)]
    return prod(numbers) if len(numbers) == len(shape) else None


def total(dims: Sequence[Dim]) -> int | None:
    """The sum, or None if a dimension is not a number."""
    numbers = [d for d in dims if isinstance(d, int)]
    return sum(numbers) if len(numbers) == len(dims) else None


def flatten(shape: Shape, start: int, end: int) -> Shape:
    """Merge dimensions start..end (both included, torch's convention for negative ones)."""
    rank = len(shape)
    if rank == 0:
        return (1,)
    start, end = start % rank, end % rank
    merged = shape[start : end + 1]
    middle = merged[0] if len(merged) == 1 else count(merged)
    return (*shape[:start], middle, *shape[end + 1 :])


def reshape(shape: Shape, target: Sequence[Dim]) -> Shape | None:
    """Resolve a target that may hold one -1 or None. None: more than one dimension stays unknown, so no engine could tell them.

    A symbol may be no dimension of ``shape`` any more, because it was multiplied into one that is unknown.
    """
    dims = [None if d == -1 else d for d in target]
    if dims.count(None) == 1:
        known = [d for d in dims if d is not None]
        symbols_in = [d for d in shape if not isinstance(d, int)]
        lost = False
        for d in (d for d in known if not isinstance(d, int)):
            if d in symbols_in:
                symbols_in.remove(d)
            else:
                lost = True
        total = prod(d for d in shape if isinstance(d, int))
        divisor = prod(d for d in known if isinstance(d, int))
        if lost:
            pass  # what is left is known only in a run
        elif not symbols_in and divisor:
            dims[dims.index(None)] = total // divisor
        elif len(symbols_in) == 1 and total == divisor:
            dims[dims.index(None)] = symbols_in[0]
    return None if dims.count(None) > 1 else tuple(dims)


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an elementwise operation of two operands of one rank, or None if they do not fit."""
    if len(a) != len(b):
        return None
    if any(isinstance(x, int) and isinstance(y, int) and x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        return None
    return tuple(
        y if x == 1 else x if y == 1 or isinstance(x, int) else y if isinstance(y, int) else x or y for x, y in zip(a, b, strict=True)
    )


def merge(a: Shape, b: Shape) -> Shape | None:
    """The shape that both must have, or None if they differ. A 1 beside a dimension that is not known may broadcast: they differ."""
    if len(a) != len(b):
        return None
    if any(x != y and (1 in (x, y) or (isinstance(x, int) and isinstance(y, int))) for x, y in zip(a, b, strict=True)):
        return None
    return tuple(x if isinstance(x, int) else y if isinstance(y, int) else x or y for x, y in zip(a, b, strict=True))
