"""The ONNX graph that is being written: names, constants, and values in the order of dimensions that a reader asks for.

The engine keeps images as NHWC, ONNX's layers read NCHW. Each value is known in one order or in both, and a Transpose is written only where
a node needs the order that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.errors import UnsupportedError
from pyqinfer.names import unique_name

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Builder:
    """What a row of an op writes to.

    Attributes:
        graph: the engine's graph. constants: its logical arrays. onnx: the onnx package.
    """

    graph: Mapping[str, Any]
    constants: Sequence[NDArray[Any]]
    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    opset: int = 21
    domains: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)
    _values: dict[tuple[int, bool], str] = field(default_factory=dict)  # value and whether it is NCHW -> floats
    _codes: dict[tuple[int, bool], str] = field(default_factory=dict)

    def unique(self, base: str) -> str:
        name = unique_name(base, self._names.__contains__)
        self._names.add(name)
        return name

    def constant(self, array: Any, name: str = "constant") -> str:
        """Store an array."""
        name = self.unique(name)
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        """Append a node; returns its output."""
        output = self.unique(name)
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], name=output, domain=domain, **attributes))
        if domain:
            self.domains.add(domain)
        return output

    # ---- values

    def has_nchw(self, value: int) -> bool:
        return (value, True) in self._values

    def set(self, value: int, name: str, nchw: bool) -> None:
        """Say what holds a value."""
        self._values[(value, nchw)] = name

    def set_codes(self, value: int, name: str, nchw: bool) -> None:
        self._codes[(value, nchw)] = name

    def get(self, value: int, nchw: bool) -> str:
        """The floats of a value in an order of dimensions."""
        return self._get(self._values, value, nchw)

    def codes(self, value: int, nchw: bool) -> str:
        """The codes of a value in an order of dimensions. Those of a table are quantized again, so that a reader sees their scale."""
        if (value, nchw) not in self._codes and (value, not nchw) not in self._codes:
            floats = self.get(value, nchw)
            self._codes[(value, nchw)] = self._quantized(value, floats, f"{floats}.codes")
        return self._get(self._codes, value, nchw)

    def _get(self, table: dict[tuple[int, bool], str], value: int, nchw: bool) -> str:
        if (value, nchw) not in table:
            other = table[(value, not nchw)]
            table[(value, nchw)] = self.add(
                "Transpose", [other], f"{other}.{'nchw' if nchw else 'nhwc'}", perm=TO_NCHW if nchw else TO_NHWC
            )
        return table[(value, nchw)]

    def shape(self, value: int) -> list[Any]:
        return list(self.graph["values"][value]["shape"])

    def quant(self, value: int) -> dict[str, Any] | None:
        """Parameters of a value of codes, the scale among them; None for floats."""
        index = self.graph["values"][value].get("quant")
        if index is None:
            return None
        scales = next(i for i, entry in enumerate(self.graph["constants"]) if entry["name"] == "activation_scales")
        return {**self.graph["quants"][index], "scale": np.float32(self.constants[scales].reshape(-1)[index])}

    # ---- codes and back

    def store(self, value: int, floats: str, nchw: bool, name: str) -> None:
        """``floats`` are what is computed for a value: quantize them where it holds codes."""
        quant = self.quant(value)
        if quant is None:
            self.set(value, floats, nchw)
            return
        codes = self._quantized(value, floats, name)
        self.set_codes(value, codes, nchw)
        self.set(value, self._dequantized(value, codes, name), nchw)

    def _quantized(self, value: int, floats: str, name: str) -> str:
        quant = self.quant(value)
        assert quant is not None
        codes = self.add("QuantizeLinear", [floats, *self._parameters(quant, name)], f"{name}.quantize")
        return self._clipped(quant, codes, name)

    def _dequantized(self, value: int, codes: str, name: str) -> str:
        quant = self.quant(value)
        assert quant is not None
        return self.add("DequantizeLinear", [codes, *self._parameters(quant, name)], f"{name}.dequantize")

    def _parameters(self, quant: Mapping[str, Any], name: str) -> list[str]:
        return [self.constant(quant["scale"], f"{name}.scale"), self.constant(np.uint8(quant["zero_point"]), f"{name}.zero_point")]

    def _clipped(self, quant: Mapping[str, Any], codes: str, name: str) -> str:
        """Codes within their range, which a Clip states where it is not all of a byte."""
        if (quant["qmin"], quant["qmax"]) == (0, 255):
            return codes
        bounds = [self.constant(np.uint8(quant[key]), f"{name}.{key}") for key in ("qmin", "qmax")]
        return self.add("Clip", [codes, *bounds], f"{name}.clip")

    def store_codes(self, value: int, codes: str, nchw: bool, name: str) -> None:
        """``codes``, which no quantize wrote, are those of a value."""
        quant = self.quant(value)
        assert quant is not None
        self.set(value, self._dequantized(value, self._clipped(quant, codes, name), name), nchw)

    def weight(self, node: Mapping[str, Any], order: Sequence[int] | None = None) -> str:
        """A layer's weights as floats, of codes where it has codes; ``order`` is a permutation of their axes."""
        index = node["constants"]["weight"]
        entry, array, name = self.graph["constants"][index], self.constants[index], f"{node['name']}.weight"
        array = array if order is None else array.transpose(order)
        if entry["dtype"] != "code":
            return self.constant(array, name)
        scale = self.constants[node["constants"]["scale"]]
        base = self.constants[node["constants"]["base"]] if "base" in node["constants"] else np.zeros(scale.shape, np.int32)
        codes, zero, bits = array.astype(np.int64), np.zeros(scale.shape, np.int64), int(entry["bits"])
        if int(node["attrs"]["step"]) == 1:
            zero = -base.astype(np.int64)
        else:  # zero points may be halves: the integers that the codes stand for are codes as well, of one bit more
            codes, bits = 2 * codes + self._per_line(base, codes), bits + 1
        if (
            max(abs(int(codes.min(initial=0))), abs(int(codes.max(initial=0))), abs(int(zero.min())), abs(int(zero.max()))) > 127
            or bits > 8
        ):
            limits = [int(a.min(initial=0)) for a in (codes, zero)] + [int(a.max(initial=0)) for a in (codes, zero)]
            if min(limits) < -128 or max(limits) > 127:
                raise UnsupportedError(f"{node['name']}: weights whose zero points or codes are beyond int8, which ONNX has no layer for")
        if scale.ndim == 2:
            scale, zero = (np.ascontiguousarray(a) for a in (scale, zero))
        held = self.constant(codes.astype(np.int8), name)
        if bits < 8 and not zero.any():
            low, high = (-1, 1) if entry["packing"].startswith("trit") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            bounds = [self.constant(np.int8(n), f"{name}.{what}") for n, what in ((low, "low"), (high, "high"))]
            held = self.add("Clip", [held, *bounds], f"{name}.clip")
        parameters = [self.constant(scale.astype(np.float32), f"{name}.scale"), self.constant(zero.astype(np.int8), f"{name}.zero_point")]
        attributes: dict[str, Any] = {"axis": 0}
        if scale.ndim == 2:
            attributes = {"axis": 1, "block_size": array.shape[1] // scale.shape[1]}
        return self.add("DequantizeLinear", [held, *parameters], f"{name}.dequantize", **attributes)

    @staticmethod
    def _per_line(parameter: NDArray[Any], codes: NDArray[Any]) -> NDArray[Any]:
        if parameter.ndim == 2:
            return np.repeat(parameter.astype(np.int64), codes.shape[1] // parameter.shape[1], 1)
        return parameter.astype(np.int64).reshape(-1, *[1] * (codes.ndim - 1))

    def activation(self, node: Mapping[str, Any], floats: str) -> str:
        """The node's activation, behind what it computes."""
        kind, attrs = node["attrs"].get("activation", "none"), node["attrs"]
        if kind == "none":
            return floats
        if kind == "relu":
            return self.add("Relu", [floats], f"{node['name']}.relu")
        return self.clamp(floats, real(attrs["lo"]), real(attrs["hi"]), node["name"])

    def clamp(self, floats: str, low: float, high: float, name: str) -> str:
        bounds = [
            "" if math.isinf(bound) or abs(bound) > 3.4e38 else self.constant(np.float32(bound), f"{name}.{what}")
            for bound, what in ((low, "lo"), (high, "hi"))
        ]
        return self.add("Clip", [floats, *bounds], f"{name}.clamp")


def real(bits: int) -> float:
    """A float attribute, which a file has as its bit pattern."""
    return float(np.uint32(bits).view(np.float32))
