"""An op has a place in many rooms, and every one of them is held here: docs/architecture.md, "Adding an op", is the list in prose."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import op_rows
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from op_rows.family import Kind, Refusal
from random_graphs.net import Net, Step, make_module

import pyqinfer as pq
from pyqinfer import _core
from pyqinfer.conversion import build_engine_graph
from pyqinfer.ops import OPS, Reads
from pyqinfer.reference.executor import OPS as TWIN

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads(op_rows.GOLDEN.read_text())
NUMERICS = (ROOT / "docs/numerics.md").read_text()
FORMAT_ROWS = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/format.md").read_text(), re.MULTILINE)
MADE_BY_THE_CONVERTER = {op for op, traits in OPS.items() if not traits.from_frontend}


def emitted() -> Iterator[str]:
    """Ops that the frontends write: the first argument of every ``reader.emit(...)``."""
    for path in sorted((ROOT / "pyqinfer/frontend").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: an op is emitted by its name"
                yield str(node.args[0].value)


def in_numerics(op: str) -> bool:
    return f"`{op}`" in NUMERICS or re.search(rf"^#.*\b{op}\b", NUMERICS, re.MULTILINE) is not None


# What every op of the engine has, where it is added, and the ops that have it.
PLACES = {
    "a row in csrc/ops/list.inc, and the file that it names": set(_core.op_names()),
    "a row in pyqinfer/ops.py": {op for op, traits in OPS.items() if traits.in_engine},
    "a row in docs/format.md": set(FORMAT_ROWS),
    "its arithmetic in docs/numerics.md, under its name in backticks or in a heading": {op for op in OPS if in_numerics(op)},
    "a function in pyqinfer/reference, in the table OPS of its file": set(TWIN),
    "a handler in pyqinfer/frontend that emits it, or from_frontend=False in pyqinfer/ops.py": set(emitted()) | MADE_BY_THE_CONVERTER,
    "a function in `exact` of its family in tests/op_rows": set(op_rows.EXACT),
    "a golden case of its family, and `PYTHONPATH=.:tests python -m op_rows`": {case["graph"]["nodes"][0]["op"] for case in GOLDEN},
    "a kind of random networks in its family, or the reason in `not_drawn`": MADE_BY_THE_CONVERTER
    | {op for kind in op_rows.KINDS for op in kind.ops}
    | {op for family in op_rows.FAMILIES for op in family.not_drawn},
}
ENGINE_OPS = sorted(PLACES["a row in pyqinfer/ops.py"] | set(_core.op_names()) | set(TWIN) | set(op_rows.EXACT) | set(FORMAT_ROWS))


@pytest.mark.parametrize("op", ENGINE_OPS)
def test_an_op_is_in_every_place(op: str) -> None:
    missing = [place for place, ops in PLACES.items() if op not in ops]
    assert not missing, f"{op} lacks:\n  - " + "\n  - ".join(missing)


def test_the_lists_of_ops_have_one_order() -> None:
    assert _core.op_names() == FORMAT_ROWS
    assert _core.op_names() == [op for op, traits in OPS.items() if traits.in_engine]


def test_frontends_emit_the_ops_that_are_marked_so() -> None:
    assert set(emitted()) == {op for op, traits in OPS.items() if traits.from_frontend}


@st.composite
def modules(draw: st.DrawFn, kind: Kind) -> Net | None:
    """A network of one node of this kind, None where it has nothing for the shapes drawn."""
    shape = (2, 4, 6, 6)[: draw(st.sampled_from(kind.ranks))]
    module = kind.module(draw, shape)
    if module is None:
        return None
    partners = [other for other in (shape, (2, 1, *shape[2:])) if kind.second is not None and kind.second(shape, other)]
    inputs = (shape, *partners[:1])
    return Net(inputs, (Step(module, tuple(range(len(inputs)))),), (len(inputs),))


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("kind", op_rows.KINDS, ids=lambda kind: kind.name)
def test_a_kind_of_random_networks_becomes_ops_that_it_names(kind: Kind) -> None:
    assert set(kind.ops) <= set(_core.op_names())
    quiet = settings(database=None, derandomize=True, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    net = find(modules(kind), lambda found: found is not None, settings=quiet)
    assert net is not None
    engine = build_engine_graph(net.build(), net.examples())
    assert set(kind.ops) & {node["op"] for node in engine.graph["nodes"]}


# ---- the traits say what the golden cases show, which the engine, the twin and the exact route agree on ------------------


def cases_of(op: str) -> list[dict]:
    return [case["graph"] for case in GOLDEN if case["graph"]["nodes"][0]["op"] == op]


@pytest.mark.parametrize("op", ENGINE_OPS)
def test_traits_agree_with_the_golden_cases(op: str) -> None:
    traits, graphs = OPS[op], cases_of(op)
    nodes = [graph["nodes"][0] for graph in graphs]
    assert traits.has_activation == any("activation" in node["attrs"] for node in nodes)
    assert traits.has_weights == any({"weight", "scale"} <= node["constants"].keys() for node in nodes)
    operands = [{graph["values"][i]["dtype"] for i in graph["nodes"][0]["inputs"]} for graph in graphs]
    of_each = {
        Reads.FLOATS: [{"f32"}],
        Reads.CODES: [{"u8"}],
        Reads.INTEGERS: [{"i32"}],
        Reads.NOTHING: [set()],
        Reads.ANY: [{"f32"}, {"u8"}, {"i32"}],
        Reads.ALIKE: [{"f32"}, {"u8"}],
        Reads.EITHER: [{"f32"}, {"u8"}],
    }[traits.reads]
    seen = [types for types in operands if len(types) < 2]  # a residual may have another type than the input
    assert all(types in of_each for types in seen)
    if traits.reads is Reads.FLOATS and not traits.is_quantizer:
        assert traits.has_epilogue == any(graph["values"][-1]["dtype"] == "u8" for graph in graphs)


# ---- what a family refuses -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("refusal", [r for family in op_rows.FAMILIES for r in family.refused], ids=lambda r: r.module)
def test_the_converter_refuses(refusal: Refusal) -> None:
    module = torch.nn.Sequential(make_module(refusal.module)).eval()
    with pytest.raises(pq.UnsupportedError, match=re.escape(refusal.message)):
        pq.convert(module, example_inputs=(torch.zeros(refusal.shape, dtype=refusal.dtype),))
