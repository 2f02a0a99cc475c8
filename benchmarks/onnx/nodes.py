"""The node tests of the onnx package, all of them, through `pyqinfer.convert`: `python -m benchmarks.onnx.nodes` writes docs/onnx-nodes.md.

A test's model is one operator whose operands are all inputs. Where the engine takes it so, it is run so; else the operands behind the
first one become constants of the file, which is what they are in exported networks (shapes, axes, scales, weights).
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onnx
import pyqinfer as pq
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from pyqinfer.errors import ConversionError, UnsupportedError
from pyqinfer.frontend.sources.onnx.module import OnnxModule
from pyqinfer.frontend.sources.onnx.reading import read_bytes

PAGE = Path(__file__).parents[2] / "docs" / "onnx-nodes.md"
_T = onnx.TensorProto
_TYPES = {_T.FLOAT, _T.UINT8, _T.INT8, _T.INT4, _T.UINT4, _T.INT32, _T.INT64}
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
_LOSSES = ("test_nllloss", "test_sce")  # operators of training, and their expansions


@dataclass(frozen=True)
class Outcome:
    """What became of a test. ``state``: passed, refused, wrong or failed; ``counted``: it is among those that the aim names."""

    name: str
    ops: tuple[str, ...]
    counted: bool
    state: str
    reason: str = ""
    constants: bool = False


def node_tests(pattern: str) -> Iterator[Any]:
    """Every node test with one data set, whose inputs and outputs are arrays or, where the types are others, lists and None."""
    for test in load_model_tests(kind="node"):
        if re.search(pattern, test.name) and test.data_sets:
            yield test


def is_counted(model: Any) -> bool:
    """Whether a test is of the default domain, of tensors of the types that count, without control flow."""
    ports = [*model.graph.input, *model.graph.output]
    if not all(port.type.HasField("tensor_type") and port.type.tensor_type.elem_type in _TYPES for port in ports):
        return False
    return all(node.domain in ("", "ai.onnx") and node.op_type not in _CONTROL for node in model.graph.node)


def run(test: Any) -> Outcome:
    """Convert and run one test."""
    name, model = test.name, test.model
    arrays, expected = (list(part) for part in test.data_sets[0])
    ops = tuple(sorted({f"{node.domain + '.' if node.domain else ''}{node.op_type}" for node in model.graph.node}))
    counted = is_counted(model) and not name.startswith(_LOSSES)
    if not all(port.type.HasField("tensor_type") for port in [*model.graph.input, *model.graph.output]):
        return Outcome(name, ops, counted, "refused", "sequences, optional values or maps")
    reason = ""
    if not all(isinstance(array, (np.ndarray, np.generic)) for array in [*arrays, *expected]):
        return Outcome(name, ops, counted, "refused", "sequences, optional values or maps")
    arrays, expected = [np.asarray(a) for a in arrays], [np.asarray(a) for a in expected]
    if any("bfloat16" in array.dtype.name for array in expected):
        return Outcome(
            name, ops, counted, "refused", "bfloat16: networks of it run in float32, which these tests' tolerance does not allow"
        )
    for frozen in _choices(model, arrays):
        try:
            got = _converted(model, arrays, frozen)
        except (UnsupportedError, ValueError, ConversionError) as error:  # ModelFormatError is a ValueError
            reason = str(error).strip().splitlines()[-1].removeprefix("  - ")
            if "no such operation" in reason and "aten." not in reason:
                break
            continue
        except Exception as error:  # every other exception is a fault that the page has to show
            return Outcome(name, ops, counted, "failed", f"{type(error).__name__}: {error}"[:300])
        for want, have in zip(expected, got, strict=True):
            # The engine computes half-precision networks in float32, so that the two differ by the rounding of their own type.
            relative, absolute = (2.0**-8, 1e-3) if want.dtype == np.float16 else (test.rtol, test.atol)
            if want.shape != have.shape or not np.allclose(
                have.astype(np.float64), want.astype(np.float64), relative, absolute, equal_nan=True
            ):
                return Outcome(name, ops, counted, "wrong", _difference(want, have))
        return Outcome(name, ops, counted, "passed", constants=bool(frozen))
    return Outcome(name, ops, counted, "refused", _short(reason))


def _choices(model: Any, arrays: list[Any]) -> list[frozenset[int]]:
    """Which inputs become constants, in the order in which that is tried."""
    every = range(len(arrays))
    integers = frozenset(i for i in every if i and arrays[i].dtype.kind in "iub")
    wanted = dict.fromkeys([frozenset(), integers, frozenset(every) - {0}, frozenset(every) - {1}])
    return [frozen for frozen in wanted if len(frozen) < len(arrays)] or [frozenset()]


def _converted(model: Any, arrays: list[Any], frozen: frozenset[int]) -> list[Any]:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    names = [port.name for port in model.graph.input]
    present = [name for name in names if name]
    del changed.graph.input[:]
    changed.graph.input.extend(port for i, port in enumerate(model.graph.input) if i not in frozen)
    for i in sorted(frozen):
        tensor = onnx.TensorProto.FromString(numpy_helper.from_array(arrays[i]).SerializeToString())
        tensor.name = present[i]
        changed.graph.initializer.append(tensor)
    module = OnnxModule(read_bytes(changed.SerializeToString()))
    left = [arrays[i] for i in range(len(arrays)) if i not in frozen]
    examples = tuple(_example(array) for array in left)
    converted = pq.convert(module, example_inputs=examples, check=False, samples=0)
    session = pq.Session(converted, threads=1)
    run_inputs = {name: _engine_input(array) for name, array in zip(converted.inputs, left, strict=True)}
    return list(session.run(run_inputs).values())


def _example(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(_engine_input(array, np.int64)).reshape(array.shape))


def _engine_input(array: Any, integers: Any = np.int32) -> Any:
    return array if array.dtype.kind == "b" else array.astype(integers if array.dtype.kind in "iu" else np.float32)


def _difference(want: Any, have: Any) -> str:
    if want.shape != have.shape:
        return f"shapes {want.shape}, {have.shape}"
    wanted = want.astype(np.float64)
    apart, largest = np.nanmax(np.abs(have.astype(np.float64) - wanted)), np.nanmax(np.abs(wanted))
    return f"differs by {apart / max(largest, 1e-300):.1e} of the largest element"


def _short(reason: str) -> str:
    """A reason without the name of the node."""
    return re.sub(r"^\S*?: ", "", reason)[:160]


def page(outcomes: list[Outcome]) -> str:
    """The page: counts, then operators with what passed, then reasons."""
    counted = [o for o in outcomes if o.counted]
    lines = ["# ONNX node tests", ""]
    lines.append(
        "Written by `python -m benchmarks.onnx.nodes`; onnx " + onnx.__version__ + ". [onnx.md](onnx.md) says how the counts are made."
    )
    lines += [
        "",
        "| tests | all | passed | of them with operands as constants | refused | wrong | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, chosen in (("all", outcomes), ("default domain, float, int4 to int64 tensors, no control flow or training", counted)):
        states = Counter(o.state for o in chosen)
        constants = sum(o.constants for o in chosen if o.state == "passed")
        share = f" ({100 * states['passed'] / max(len(chosen), 1):.1f} %)"
        others = " | ".join(str(states[state]) for state in ("refused", "wrong", "failed"))
        lines.append(f"| {title} | {len(chosen)} | {states['passed']}{share} | {constants} | {others} |")
    lines += [
        "",
        "## Operators",
        "",
        "Passed of all tests in which the operator stands.",
        "",
        "| operator | passed | why not |",
        "|---|---|---|",
    ]
    by_op: dict[str, list[Outcome]] = defaultdict(list)
    for o in outcomes:
        for op in o.ops:
            by_op[op].append(o)
    for op, found in sorted(by_op.items()):
        reasons = Counter(o.reason for o in found if o.state != "passed")
        why = "; ".join(reason.replace("|", "\\|").replace("\n", " ") for reason, _ in reasons.most_common(2))
        lines.append(f"| {op} | {sum(o.state == 'passed' for o in found)}/{len(found)} | {why} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression of test names; the page is not written")
    parser.add_argument("--list", default="", help="print the outcomes of these states, e.g. wrong,failed")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    outcomes = []
    for test in node_tests(options.only):
        outcomes.append(run(test))
        if outcomes[-1].state in options.list.split(","):
            print(outcomes[-1], flush=True)
    text = page(outcomes)
    print("\n".join(text.splitlines()[:8]))
    if not options.only:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
