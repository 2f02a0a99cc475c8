"""Op handlers by family: arguments of an aten op by schema name in, IR nodes out."""

from __future__ import annotations

from pyqinfer.frontend.aten import (
    activations,
    arithmetic,
    complex_numbers,
    counting,
    functions,
    integers,
    layers,
    linear_maps,
    lookup,
    masks,
    matmul,
    movement,
    norms,
    ordering,
    padding,
    picking,
    pooling,
    reduce,
    resample,
    sampling,
    scatter,
    unpooling,
    volumes,
    windows,
)
from pyqinfer.frontend.reader import Handler

FAMILIES = (
    layers,
    arithmetic,
    activations,
    pooling,
    reduce,
    norms,
    matmul,
    masks,
    integers,
    counting,
    lookup,
    movement,
    padding,
    picking,
    resample,
    volumes,
    linear_maps,
    sampling,
    scatter,
    ordering,
    functions,
    complex_numbers,
    unpooling,
    windows,
)
# Keys are names without namespace and overload, such as "conv2d". No two families have the same (tests/test_registries.py).
HANDLERS: dict[str, Handler] = {op: handler for family in FAMILIES for op, handler in family.HANDLERS.items()}
# What reads or gives complex numbers, by the same names.
PAIRS: dict[str, Handler] = complex_numbers.PAIRS
