"""What the tests know of each op, one file per family of ops: exact results, golden cases, random nodes, modules of random networks.

``golden.json`` holds the golden cases with their results. ``PYTHONPATH=.:tests python -m op_rows`` writes it: after a new case, and after a
change of docs/numerics.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from op_rows import conversions, dynamic, elementwise, integers, lookups, movement, norms, pools, products, reductions, weighted
from op_rows.family import Case, Family, Kind
from op_rows.one_op import OneOp

FAMILIES: Sequence[Family] = (
    conversions.FAMILY,
    weighted.FAMILY,
    dynamic.FAMILY,
    elementwise.FAMILY,
    pools.FAMILY,
    reductions.FAMILY,
    norms.FAMILY,
    products.FAMILY,
    lookups.FAMILY,
    movement.FAMILY,
    integers.FAMILY,
)
EXACT: Mapping[str, Callable[[OneOp], np.ndarray]] = {op: function for family in FAMILIES for op, function in family.exact.items()}
CASES: Sequence[Case] = [case for family in FAMILIES for case in family.cases]
KINDS: Sequence[Kind] = [kind for family in FAMILIES for kind in family.kinds]
GOLDEN = Path(__file__).parent / "golden.json"


def nodes() -> st.SearchStrategy[OneOp]:
    """Random nodes of every op."""
    return st.one_of(*(family.nodes for family in FAMILIES))


def evaluate(node: OneOp) -> np.ndarray:
    """The output of a node in exact arithmetic: uint8 codes or float32."""
    return EXACT[node.op](node)


def document() -> str:
    """What golden.json has to hold: one line per case."""
    return "[\n" + ",\n".join(json.dumps(_entry(case), separators=(",", ":")) for case in CASES) + "\n]\n"


def _entry(case: Case) -> dict[str, Any]:
    node = case.node()
    return {
        "name": case.name,
        "graph": node.graph(),
        "constants": [encode(array) for array in node.constant_arrays()],
        "inputs": {name: encode(np.ascontiguousarray(array)) for name, array in node.feeds().items()},
        "output": encode(np.ascontiguousarray(evaluate(node))),
    }


def encode(array: np.ndarray) -> dict[str, Any]:
    """Floats as their bit patterns."""
    bits = array.view(np.uint32) if array.dtype == np.float32 else array
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": bits.ravel().tolist()}


def decode(entry: Mapping[str, Any]) -> np.ndarray:
    """The array that :func:`encode` wrote."""
    dtype = np.dtype(entry["dtype"])
    data = np.array(entry["data"], np.uint32 if dtype == np.float32 else dtype)
    return (data.view(np.float32) if dtype == np.float32 else data).reshape(entry["shape"])
