"""What every op is: one row per op of the IR (``pyqinfer.ir``) and of the engine (docs/format.md), which all passes read.

A pass asks its question of a row, as in ``node.traits.takes_residual``, and keeps no list of op names. So a new op is one row here, and
tests/test_ops.py compares the names with those of the engine's registry and of the NumPy twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class Layout(Enum):
    """What an op asks of the order of dimensions in memory. torch's is NCHW, the engine's spatial ops work on NHWC (``lower.layout``)."""

    TORCH = auto()  # operands have to be in torch's order
    SPATIAL = auto()  # operands of rank 4 have to be in NHWC
    ELEMENTWISE = auto()  # works element by element, in whatever order its first operand has
    ALONG_AXES = auto()  # takes whatever order its operands have: attributes name the axes, and change with the order
    REDUCES = auto()  # removes axes, which may be named in either order if what is left has one order
    LAST_AXIS = auto()  # torch names an axis; the engine works along the last one
    RESHAPES = auto()  # gives its elements another shape, in torch's order
    PERMUTES = auto()  # changes the order itself
    COLUMNS = auto()  # as TORCH, but the last axis meets columns of weights, which may be permuted in its place


class Reads(Enum):
    """What types the operands of an op have (docs/format.md)."""

    FLOATS = auto()
    CODES = auto()
    EITHER = auto()  # each operand may be codes or floats
    ALIKE = auto()  # the operands are all codes, or all floats
    INTEGERS = auto()
    ANY = auto()  # floats, codes or integers, each as it is
    NOTHING = auto()  # there are no operands


class Agreement(Enum):
    """How close the engine comes to torch on the same input to the op (docs/numerics.md, "What follows")."""

    EXACT = auto()  # no code differs
    SUMS = auto()  # torch adds in another order: few codes differ, each by one step
    ROUNDS = auto()  # torch's function rounds otherwise: few codes differ, each by one step
    AVERAGES = auto()  # what SUMS says holds once exact ties between two codes are left out


@dataclass(frozen=True)
class OpTraits:
    """What the passes have to know about an op. Every flag is a fact about the op as such, whatever its operands are.

    Attributes:
        layout, reads, agreement: see the classes.
        from_frontend: frontends write it. in_engine: the engine runs it. An op that only one of them knows is made or rewritten by
            ``pyqinfer.lower``.
        is_layer: a conv or linear layer. It has weights with the output channels first, its MACs are counted, it is named after the
            module that holds it, and a BatchNorm behind it folds into it.
        has_weights: its constant ``weight`` may be codes with a scale, and its attribute ``step`` belongs to them.
        quantizes_input: reads floats and quantizes them itself, with parameters computed while the model runs.
        has_epilogue: computes values, and a quantize behind it becomes part of it.
        has_activation: a clamp behind it becomes part of it. takes_residual: an add behind it does.
        picks_elements: writes elements of its first operand as they are, so it works on codes as on floats.
        computing_mode: the value of the attribute ``mode`` with which it does not pick elements, but computes values in an epilogue.
        has_table: maps each element by itself where its operands do not broadcast, so such ops between the same codes are one table.
        on_images: does to images [N, C, 1, L] what it does to values [N, C, L], axis for axis.
        is_quantizer: turns floats into codes or back, beside a layer and under its neighbour's metadata.
        is_plumbing: stands between layers, so that it is named after the value that it reads.
    """

    layout: Layout
    reads: Reads
    agreement: Agreement = Agreement.EXACT
    from_frontend: bool = True
    in_engine: bool = True
    is_layer: bool = False
    has_weights: bool = False
    quantizes_input: bool = False
    has_epilogue: bool = False
    has_activation: bool = False
    takes_residual: bool = False
    picks_elements: bool = False
    computing_mode: str = ""
    has_table: bool = False
    on_images: bool = False
    is_quantizer: bool = False
    is_plumbing: bool = False

    def picks_with(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a node with these attributes picks elements."""
        return self.picks_elements and not self._computes_with(attrs)

    def absorbs_quantize_with(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a node with these attributes ends in an epilogue that can quantize."""
        return self.has_epilogue or self._computes_with(attrs)

    def _computes_with(self, attrs: Mapping[str, Any]) -> bool:
        return self.computing_mode != "" and attrs.get("mode") == self.computing_mode


def _quantizer(reads: Reads) -> OpTraits:
    return OpTraits(Layout.ELEMENTWISE, reads, on_images=True, is_quantizer=True, is_plumbing=True)


def _layer(layout: Layout, in_engine: bool = True, takes_residual: bool = True) -> OpTraits:
    return OpTraits(
        layout,
        Reads.ALIKE,
        Agreement.SUMS,
        in_engine=in_engine,
        is_layer=True,
        has_weights=True,
        has_epilogue=True,
        has_activation=True,
        takes_residual=takes_residual,
    )


def _function(layout: Layout) -> OpTraits:
    """A function of float operands that ends in an epilogue."""
    return OpTraits(layout, Reads.FLOATS, Agreement.ROUNDS, has_epilogue=True)


def _average(layout: Layout) -> OpTraits:
    return OpTraits(layout, Reads.EITHER, Agreement.AVERAGES, has_epilogue=True)


def _movement(layout: Layout, agreement: Agreement = Agreement.EXACT, **more: Any) -> OpTraits:
    return OpTraits(layout, Reads.EITHER, agreement, picks_elements=True, **more)


# In the order of docs/format.md, then the ops that the engine does not know. Operands and attributes are those of docs/format.md, but
# in the IR activations are NCHW, weights OIHW, numbers floats, and shapes may hold None. A remark says where an op differs otherwise.
OPS: Mapping[str, OpTraits] = {
    "quantize": _quantizer(Reads.FLOATS),
    "dequantize": _quantizer(Reads.CODES),
    "transpose": _movement(Layout.PERMUTES, is_plumbing=True),
    "reshape": _movement(Layout.RESHAPES),
    "conv2d": _layer(Layout.SPATIAL),
    "linear": _layer(Layout.COLUMNS),
    "linear_dynamic": OpTraits(
        Layout.COLUMNS,
        Reads.FLOATS,
        Agreement.SUMS,
        is_layer=True,
        has_weights=True,
        quantizes_input=True,
        has_epilogue=True,
        has_activation=True,
    ),
    "add": OpTraits(Layout.ELEMENTWISE, Reads.EITHER, has_epilogue=True, has_activation=True, has_table=True, on_images=True),
    # The IR's clamp is relu, relu6, hardtanh and clamp: a layer in front of it takes it in as its activation.
    "clamp": OpTraits(Layout.ELEMENTWISE, Reads.FLOATS, has_table=True, on_images=True),
    "affine": OpTraits(Layout.SPATIAL, Reads.EITHER, Agreement.ROUNDS, from_frontend=False, has_epilogue=True),
    "table": OpTraits(Layout.ELEMENTWISE, Reads.CODES),
    "max_pool2d": _movement(Layout.SPATIAL),
    "avg_pool2d": _average(Layout.SPATIAL),
    "adaptive_avg_pool2d": _average(Layout.SPATIAL),
    "mean": _average(Layout.SPATIAL),
    "unary": OpTraits(Layout.ELEMENTWISE, Reads.FLOATS, Agreement.ROUNDS, has_epilogue=True, has_table=True, on_images=True),
    "prelu": OpTraits(Layout.SPATIAL, Reads.FLOATS, Agreement.ROUNDS),  # its slopes are those of channels, on axis 1
    # It has two operands that broadcast, or one and the constant `other`; with a single number it has a table.
    "binary": OpTraits(Layout.ELEMENTWISE, Reads.EITHER, has_epilogue=True, has_table=True, on_images=True),
    "reduce": _average(Layout.REDUCES),
    "cumsum": OpTraits(Layout.ALONG_AXES, Reads.ANY, Agreement.SUMS, on_images=True),
    "softmax": _function(Layout.LAST_AXIS),  # its attribute `axis` may be any
    "matmul": OpTraits(Layout.TORCH, Reads.ALIKE, Agreement.SUMS, has_epilogue=True),
    "layer_norm": _function(Layout.TORCH),
    "group_norm": _function(Layout.SPATIAL),
    "embedding": OpTraits(Layout.TORCH, Reads.INTEGERS, has_weights=True, has_epilogue=True),
    "concat": OpTraits(Layout.ALONG_AXES, Reads.ALIKE, on_images=True),
    "slice": _movement(Layout.ALONG_AXES),
    "pad": _movement(Layout.ALONG_AXES),  # its `value` is a float, for codes too
    "upsample": _movement(Layout.SPATIAL, Agreement.AVERAGES, computing_mode="bilinear"),
    "pixel_shuffle": _movement(Layout.SPATIAL, Agreement.SUMS),  # a transposed convolution ends in one
    "constant": OpTraits(Layout.TORCH, Reads.NOTHING),
    "expand": _movement(Layout.TORCH),
    "cast": OpTraits(Layout.TORCH, Reads.ANY),
    "compare": OpTraits(Layout.TORCH, Reads.ANY),  # its result is codes with the parameters ir.TRUTH
    "where": OpTraits(Layout.TORCH, Reads.ANY),
    "integer": OpTraits(Layout.TORCH, Reads.INTEGERS),
    "arange": OpTraits(Layout.TORCH, Reads.ANY),  # its first operand gives nothing but the length of an axis
    "gather": OpTraits(Layout.TORCH, Reads.ANY, picks_elements=True),  # its second operand is integers
    "argmax": OpTraits(Layout.TORCH, Reads.ANY),
    # It computes y = x*scale + shift per channel (axis 1).
    "batch_norm": OpTraits(Layout.SPATIAL, Reads.FLOATS, Agreement.ROUNDS, in_engine=False),
    # Its weights are [O, I/groups, kh, kw].
    "conv_transpose2d": _layer(Layout.SPATIAL, in_engine=False, takes_residual=False),
    # It gives its operand another shape in torch, where both are the same array in the engine (lower.layout).
    "alias": _movement(Layout.TORCH, from_frontend=False, in_engine=False),
}
