"""What a handler of an ONNX operator is given: the node's operands and attributes, in the forms that handlers ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.sources.onnx.graph import Initializer, Operation
from pyqinfer.frontend.sources.onnx.values import (
    Array,
    ChannelValues,
    Coded,
    CodedRows,
    Codes,
    Const,
    IntegerProduct,
    RuntimeCodes,
    RuntimeScale,
    RuntimeZeroPoint,
    Sizes,
    Value,
)
from pyqinfer.frontend.sources.onnx.weights import dequantized
from pyqinfer.frontend.values import NotSupportedHere

Handler = Callable[["Call"], Any]
# Attributes about training, memory order of other results, or types of numbers that are all float32 here, and padding beside auto_pad.
_WITHOUT_EFFECT = frozenset(
    {
        "momentum",
        "spatial",
        "is_test",
        "seed",
        "consumed_inputs",
        "storage_order",
        "saturate",
        "round_mode",
        "stash_type",
        "precision",
        "pads",
    }
    | {"softmax_precision", "ratio", "accuracy_level", "axis", "doc_string", "dtype", "output_dtype", "rounding_mode", "exclude_outside"}
    | {"cubic_coeff_a", "extrapolation_value", "nearest_mode", "coordinate_transformation_mode", "block_size", "axes", "fmod"}
)
_MOST_ELEMENTS = 1 << 28  # of a tensor that a node makes of nothing but sizes


@dataclass(frozen=True)
class Call:
    """One node in the state of being traced. ``operands``: what its inputs stand for, None where one is left out."""

    operation: Operation
    operands: Sequence[Value]
    looked_at: set[str] = field(default_factory=set)  # attributes that the handler asked for

    @property
    def version(self) -> int:
        return self.operation.version

    def value(self, i: int) -> Value:
        """Operand ``i`` as it is; None where the node has no such input."""
        return self.operands[i] if i < len(self.operands) else None

    def has(self, i: int) -> bool:
        return self.value(i) is not None

    def tensor(self, i: int) -> Tensor:
        """Operand ``i`` as a tensor of torch: codes as the floats that they stand for."""
        return to_tensor(self.value(i))

    def tensors(self) -> list[Tensor]:
        return [to_tensor(value) for value in self.operands]

    def attribute(self, name: str, default: Any = None) -> Any:
        self.looked_at.add(name)
        return self.operation.attributes.get(name, default)

    def unread(self) -> list[str]:
        """Attributes that change the result and that the handler knows nothing of."""
        given = self.operation.attributes
        return [name for name in given if name not in self.looked_at | _WITHOUT_EFFECT and given[name] not in (0, "", "NOTSET", [])]

    def array(self, i: int, what: str) -> Array:
        """Operand ``i``, which has to be a constant."""
        value = self.value(i)
        if isinstance(value, Const):
            return value.array
        if isinstance(value, Sizes) and all(isinstance(n, (int, float)) for n in value.array.ravel()):
            return np.array(value.array.tolist(), np.int64)
        raise NotSupportedHere(f"its {what} is computed from the input, not a constant")

    def number(self, i: int, what: str, default: Any = None) -> Any:
        """Operand ``i``, a constant of one number; ``default`` where it is left out."""
        if not self.has(i):
            return default
        array = self.array(i, what)
        if array.size != 1:
            raise NotSupportedHere(f"its {what} has {array.size} numbers")
        return array.reshape(-1)[0].item()

    def sizes(self, i: int, what: str) -> list[Any]:
        """Operand ``i``, a list of integers: numbers, or sizes of the input."""
        value = self.value(i)
        if isinstance(value, Sizes):
            return list(value.array.reshape(-1))
        return [int(n) for n in self.array(i, what).reshape(-1)]

    def listed(self, i: int, name: str, what: str) -> list[Any] | None:
        """A list of integers that older versions have as attribute ``name`` and newer ones as operand ``i``; None where it is left out."""
        if self.has(i):
            return self.sizes(i, what)
        found = self.attribute(name)
        return None if found is None else list(found)

    def axis(self, rank: int, default: int, name: str = "axis") -> int:
        """The attribute that names an axis, counted from the front."""
        return axis_of(int(self.attribute(name, default)), rank)

    def initializer(self, name: str) -> Initializer:
        found = self.attribute(name)
        if not isinstance(found, Initializer):
            raise NotSupportedHere(f"it has no tensor {name!r}")
        return found


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises NotSupportedHere for one that is not there."""
    if not -rank <= axis < rank:
        raise NotSupportedHere(f"axis {axis} of rank {rank}")
    return axis % rank


def to_tensor(value: Value) -> Tensor:
    """A value as a tensor of torch."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Const):
        return value.tensor
    if isinstance(value, Codes | CodedRows):
        raise NotSupportedHere("integer codes without a DequantizeLinear in front")
    if isinstance(value, Coded):
        return dequantized(value)
    if isinstance(value, ChannelValues):
        return value.values * torch.tensor(value.ratio.tolist()).reshape([-1, *[1] * (value.values.ndim - 2)])
    if isinstance(value, Sizes):
        numbers = [number if isinstance(number, (int, float, bool)) else None for number in value.array.reshape(-1)]
        if None in numbers:
            raise NotSupportedHere("a size of the input as a tensor")
        return torch.tensor(numbers, dtype=torch.int64).reshape(value.array.shape)
    if isinstance(value, RuntimeCodes | RuntimeScale | RuntimeZeroPoint | IntegerProduct):
        raise NotSupportedHere("run-time codes outside MatMulInteger, Cast, Mul: no layer of the engine reads them")
    raise NotSupportedHere("an input that is left out")


def check_count(shape: Sequence[Any]) -> None:
    """Refuse a tensor that a small file makes large. Raises UnsupportedError."""
    numbers = [int(n) for n in shape if isinstance(n, int)]
    if any(n < 0 for n in numbers) or prod(numbers) > _MOST_ELEMENTS:
        raise UnsupportedError(f"a tensor of shape {list(shape)}; at most {_MOST_ELEMENTS} elements are made")
