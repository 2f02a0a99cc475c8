"""Names that have to differ: of a graph's nodes, values, symbols and buffers."""

from __future__ import annotations

from collections.abc import Callable


def unique_name(base: str, taken: Callable[[str], bool], separator: str = "_") -> str:
    """``base``, or the first of ``base_1``, ``base_2``, ... that is not taken."""
    name, count = base, 1
    while taken(name):
        name, count = f"{base}{separator}{count}", count + 1
    return name
