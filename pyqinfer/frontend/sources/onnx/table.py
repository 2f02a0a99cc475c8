"""One row per operator of ONNX: what computes it, or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from pyqinfer.frontend.sources.onnx.call import Handler
from pyqinfer.frontend.sources.onnx.ops import (
    attention,
    elementwise,
    integers,
    layers,
    movement,
    places,
    pooling,
    qoperator,
    quantize,
    recurrent,
    reductions,
    sampling,
    sizes,
)

Key = tuple[str, str]  # domain ("" is the standard's) and operator

_MOVING = movement.MOVING_ROWS | pooling.MOVING_ROWS
_STANDARD: dict[str, Handler] = {
    **elementwise.ROWS,
    **layers.ROWS,
    **attention.ROWS,
    **pooling.ROWS,
    **reductions.ROWS,
    **movement.ROWS,
    **places.ROWS,
    **sampling.ROWS,
    **recurrent.ROWS,
    **sizes.ROWS,
    **quantize.ROWS,
    **integers.ROWS,
    **qoperator.ROWS,
    **{op: qoperator.unchanged(handler) for op, handler in _MOVING.items()},
}
_MICROSOFT: dict[str, Handler] = {
    **elementwise.MICROSOFT_ROWS,
    **layers.MICROSOFT_ROWS,
    **reductions.MICROSOFT_ROWS,
    **quantize.MICROSOFT_ROWS,
    **integers.MICROSOFT_ROWS,
    **qoperator.MICROSOFT_ROWS,
}
_QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
TABLE: Mapping[Key, Handler] = {
    **{("", op): handler for op, handler in _STANDARD.items()},
    **{("com.microsoft", op): handler for op, handler in _MICROSOFT.items()},
    **{(domain, op): handler for domain in _QONNX_DOMAINS for op, handler in quantize.QONNX_ROWS.items()},
}

_CONTROL = "control flow, which the engine does not run; fold it before (onnxsim, onnxslim)"
_SEQUENCE = "sequences and optional values, which the engine does not have"
_RANDOM = "random numbers, which give another result in every run"
_DATA = "a result whose size depends on the data"
REFUSED: Mapping[Key, str] = {
    ("", op): reason
    for reason, ops in {
        _CONTROL: ("If", "Loop", "Scan"),
        _SEQUENCE: (
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
            "SplitToSequence",
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
        ),
        _RANDOM: ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
        _DATA: ("NonZero", "Unique", "Compress", "NonMaxSuppression"),
    }.items()
    for op in ops
}
