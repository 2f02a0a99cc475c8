"""quantize and dequantize."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from op_rows.exact import fill, operand
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, quants, sizes, tensor
from op_rows.stream import HALVES, NARROW, SPECIAL, U4, U8, U8B, Stream

_SAME = {"layout": "same"}


def _quantize(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    x = np.moveaxis(x, 1, 3) if node.attrs["layout"] == "to_nhwc" else x
    return fill(node, x.shape, lambda *index: float(x[index]))


def _dequantize(node: OneOp) -> np.ndarray:
    y = fill(node, node.inputs[0][0].shape, lambda *index: operand(node, 0, index))
    return np.moveaxis(y, 3, 1) if node.attrs["layout"] == "to_nchw" else y


def _quantize_case(name: str, output: Quant, factor: float = 1.0) -> Case:
    def build(d: Stream) -> OneOp:
        return OneOp("quantize", [(np.float32(factor) * d.floats(64, spread=8), None)], output, attrs=_SAME)

    return Case(f"quantize: {name}", build)


_TIES = np.array([*SPECIAL, *(0.25 * k for k in range(-48, 60))], np.float32)
_CASES = [
    Case("quantize: ties, NaN and infinities", lambda d: OneOp("quantize", [(_TIES, None)], HALVES, attrs=_SAME)),
    _quantize_case("a scale that is no power of two", U8),
    _quantize_case("4 bits", U4),
    _quantize_case("qmin 1", NARROW),
    _quantize_case("smallest scale", Quant(2.0**-100, 5), 2.0**-99),
    _quantize_case("largest scale", Quant(2.0**100, 250), 2.0**105),
    Case("quantize: NCHW to NHWC", lambda d: OneOp("quantize", [(d.floats(2, 3, 2, 4), None)], U8, attrs={"layout": "to_nhwc"})),
    Case("dequantize: every code", lambda d: OneOp("dequantize", [(np.arange(256, dtype=np.uint8), U8)], attrs=_SAME)),
    Case("dequantize: NHWC to NCHW", lambda d: OneOp("dequantize", [(d.codes(2, 3, 2, 5), U8B)], attrs={"layout": "to_nchw"})),
]


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng, shape = generator(draw), [draw(sizes) for _ in range(4)]
    if draw(st.booleans()):
        layout = draw(st.sampled_from(["same", "to_nhwc"]))
        return OneOp("quantize", [tensor(rng, None, *shape)], draw(quants()), attrs={"layout": layout})
    return OneOp("dequantize", [tensor(rng, draw(quants()), *shape)], attrs={"layout": draw(st.sampled_from(["same", "to_nchw"]))})


def _fake_quantize(draw: Draw, x: Shape) -> str | None:
    low, high = draw(st.sampled_from([(0, 255), (-128, 127), (0, 15)]))
    scale = draw(st.sampled_from([0.01, 0.037, 0.1]))
    return f"FakeQuantize({scale}, {draw(st.integers(low, high))}, {low}, {high})"


FAMILY = Family(
    exact={"quantize": _quantize, "dequantize": _dequantize},
    cases=_CASES,
    nodes=_nodes(),
    kinds=[Kind("fake_quantize", ("quantize", "dequantize"), (2, 4), _fake_quantize)],
)
