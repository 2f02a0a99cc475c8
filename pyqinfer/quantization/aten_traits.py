"""What torch's ops are to quantization: one row per aten op that it treats apart. The IR's ops have their rows in ``pyqinfer.ops``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from torch.fx import Node


class Kind(Enum):
    """What becomes of the quantization parameters of an op's operands."""

    LAYER = auto()  # multiplies by weights, in integers
    BATCH_NORM = auto()
    CLAMP = auto()  # an activation of the engine's epilogues, which is carried out on sums or on codes
    FUNCTION = auto()  # any other activation, which reads floats
    JOIN = auto()  # puts tensors together in integers; each operand has parameters of its own, and so has the result
    AVERAGE = auto()  # writes means of its operand's elements, with parameters of their own
    SHARE = auto()  # writes elements of its operand (and zeros), with its parameters
    SPLIT = auto()  # the same for each of several results
    IDENTITY = auto()  # writes its operand
    OTHER = auto()


class Scaling(Enum):
    """Whether ``f(s*x) = s*f(x)`` holds for every ``s > 0``, channel by channel: then the layers around the op can be equalized."""

    NO = auto()
    IMAGES = auto()  # for images, whose channels it keeps apart
    ELEMENTWISE = auto()  # for tensors of any rank


@dataclass(frozen=True)
class AtenTraits:
    """One op.

    Attributes:
        kind, scaling: see the classes.
        bounded: a clamp with an upper bound that can act. flattens: gives its operand another shape in torch's order.
        is_arithmetic: works element by element on tensors and numbers that broadcast.
    """

    kind: Kind
    scaling: Scaling = Scaling.NO
    bounded: bool = False
    flattens: bool = False
    is_arithmetic: bool = False

    @property
    def is_activation(self) -> bool:
        return self.kind in (Kind.CLAMP, Kind.FUNCTION)

    @property
    def is_pointwise(self) -> bool:
        """It maps element by element, as long as its operands do not broadcast."""
        return self.is_activation or self.is_arithmetic

    @property
    def runs_on_codes(self) -> bool:
        """The engine carries it out on codes."""
        return self.kind in (Kind.LAYER, Kind.CLAMP, Kind.JOIN, Kind.AVERAGE, Kind.SHARE)


_LAYER = AtenTraits(Kind.LAYER)
_FUNCTION = AtenTraits(Kind.FUNCTION)
_SHARE = AtenTraits(Kind.SHARE)
_RESHAPE = AtenTraits(Kind.SHARE, flattens=True)
_ARITHMETIC = AtenTraits(Kind.OTHER, is_arithmetic=True)
_OTHER = AtenTraits(Kind.OTHER)

ATEN: Mapping[str, AtenTraits] = {
    "conv1d": _LAYER,
    "conv2d": _LAYER,
    "conv3d": _LAYER,
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _LAYER),
    "linear": _LAYER,
    "_native_batch_norm_legit_no_training": AtenTraits(Kind.BATCH_NORM),
    "relu": AtenTraits(Kind.CLAMP, Scaling.ELEMENTWISE),
    "relu6": AtenTraits(Kind.CLAMP, bounded=True),
    "hardtanh": AtenTraits(Kind.CLAMP, bounded=True),
    "clamp": AtenTraits(Kind.CLAMP, bounded=True),
    "clamp_min": AtenTraits(Kind.CLAMP),
    "leaky_relu": AtenTraits(Kind.FUNCTION, Scaling.ELEMENTWISE),
    **dict.fromkeys(("silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "elu", "prelu", "softplus", "mish"), _FUNCTION),
    **dict.fromkeys(("selu", "celu", "log_sigmoid", "exp", "erf", "log", "log1p", "sqrt", "rsqrt", "abs"), _ARITHMETIC),
    **dict.fromkeys(("sin", "cos", "floor", "ceil", "round"), _ARITHMETIC),
    **dict.fromkeys(("mul", "div", "sub", "rsub", "neg", "reciprocal", "maximum", "minimum", "pow", "clamp_max"), _ARITHMETIC),
    "add": AtenTraits(Kind.JOIN, is_arithmetic=True),
    "cat": AtenTraits(Kind.JOIN),
    "avg_pool2d": AtenTraits(Kind.AVERAGE, Scaling.IMAGES),
    "adaptive_avg_pool2d": AtenTraits(Kind.AVERAGE, Scaling.IMAGES),
    "upsample_bilinear2d": AtenTraits(Kind.AVERAGE, Scaling.IMAGES),
    "mean": AtenTraits(Kind.AVERAGE),
    **dict.fromkeys(("avg_pool1d", "adaptive_avg_pool1d", "avg_pool3d", "adaptive_avg_pool3d"), AtenTraits(Kind.AVERAGE)),
    **dict.fromkeys(("max_pool1d", "max_pool3d", "upsample_nearest1d", "unfold", "im2col"), _SHARE),
    "max_pool2d": AtenTraits(Kind.SHARE, Scaling.IMAGES),
    "upsample_nearest2d": AtenTraits(Kind.SHARE, Scaling.IMAGES),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten"), _RESHAPE),
    **dict.fromkeys(("squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "pixel_shuffle", "pixel_unshuffle"), _SHARE),
    **dict.fromkeys(("slice", "select", "expand", "pad", "constant_pad_nd"), _SHARE),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), AtenTraits(Kind.SPLIT)),
    **dict.fromkeys(("clone", "alias", "detach", "contiguous", "dropout"), AtenTraits(Kind.IDENTITY)),
}


def op_name(node: Node) -> str:
    """ "conv2d" for aten.conv2d.default; "" for everything that is no aten op."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.name.startswith("aten::"):
        return ""
    return str(schema.name).removeprefix("aten::")


def traits_of(node: Node) -> AtenTraits:
    """The row of a node's op; of kind OTHER where there is none."""
    return ATEN.get(op_name(node), _OTHER)


def kind_of(node: Node) -> Kind:
    return traits_of(node).kind
