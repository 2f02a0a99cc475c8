"""The lowered graph as docs/format.md writes it: one dict for the JSON and the list of constants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer import _core
from pyqinfer.ir import Attr, Graph, Node, Value, Weight, quants_of, real
from pyqinfer.lower.tables import code_of
from pyqinfer.names import unique_name
from pyqinfer.terms import Term

SCALES_NAME = "activation_scales"
_INFINITY = float("inf")
_DTYPES = {"uint8": "u8", "int32": "i32"}


@dataclass(frozen=True)
class EngineGraph:
    """A model on its way into a file.

    ``graph``: the JSON object of docs/format.md without the shapes of values that nodes write; ``constants``: one array per entry.

    ``origins``: name of an engine node -> the node of the torch graph that computes the same tensor, for comparing layer by layer.
    ``nhwc``: engine nodes whose output has torch's dimensions in the order 0, 2, 3, 1.
    """

    graph: dict[str, Any]
    constants: list[NDArray[Any]]
    origins: dict[str, str]
    nhwc: frozenset[str] = frozenset()

    def to_json(self) -> str:
        return json.dumps(self.graph, separators=(",", ":"), allow_nan=False)

    def with_sample(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> EngineGraph:
        """Give this graph with one more stored pair of inputs and outputs."""
        entries, constants = list(self.graph["constants"]), list(self.constants)
        number = len(self.graph["samples"])
        sample: dict[str, dict[str, int]] = {"inputs": {}, "outputs": {}}
        for kind, arrays in (("inputs", inputs), ("outputs", outputs)):
            for name, array in arrays.items():
                sample[kind][name] = len(entries)
                dtype = _DTYPES.get(array.dtype.name, "f32")
                entries.append({"name": f"samples.{number}.{kind}.{name}", "dtype": dtype, "shape": list(array.shape)})
                constants.append(np.asarray(array, order="C"))
        return replace(self, graph={**self.graph, "constants": entries, "samples": [*self.graph["samples"], sample]}, constants=constants)


def emit(graph: Graph) -> EngineGraph:
    """Write the graph down. Raises ValueError, naming the layer, for constants that are not finite."""
    return _Emitter(graph).run()


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: set[str] = set()
        self.entries: list[dict[str, Any]] = []
        self.arrays: list[NDArray[Any]] = []
        self.value_ids: dict[Value, int] = {}
        self.values: list[dict[str, Any]] = []
        self.origins: dict[str, str] = {}
        self.nhwc: set[str] = set()
        self.weights: dict[tuple[Any, ...], int] = {}

    def run(self) -> EngineGraph:
        written = [*self.graph.inputs, *(node.output for node in self.graph.nodes)]
        self.quants = {quant: i for i, quant in enumerate(quants_of(written))}
        for value in self.graph.inputs:
            shape = [value.shape[i] for i in (0, 2, 3, 1)] if value.nhwc else value.shape
            self._value(value, self._unique(value.name), ["?" if d is None else d for d in shape])
        nodes = [self._node(node) for node in self.graph.nodes if not self._is_alias(node)]
        if self.quants:
            scales = np.array([quant.scale for quant in self.quants], np.float32)
            self._constant(SCALES_NAME, {"dtype": "f32"}, scales)
        return EngineGraph(
            {
                "symbols": list(self.graph.symbols),
                **({"sizes": [[name, term] for name, term in sizes.items()]} if (sizes := self._named_sizes()) else {}),
                **({"conditions": self.graph.conditions} if self.graph.conditions else {}),
                "quants": [{"bits": q.bits, "zero_point": q.zero_point, "qmin": q.qmin, "qmax": q.qmax} for q in self.quants],
                "constants": self.entries,
                "values": self.values,
                "nodes": nodes,
                "inputs": [{"name": v.name, "value": self.value_ids[v]} for v in self.graph.inputs],
                "outputs": [{"name": name, "value": self.value_ids[v]} for name, v in self.graph.outputs],
                "samples": [],
            },
            self.arrays,
            self.origins,
            frozenset(self.nhwc),
        )

    def _named_sizes(self) -> dict[str, Term]:
        """The computed sizes that attributes name."""
        named = {
            part for node in self.graph.nodes for value in node.attrs.values() for part in (value if isinstance(value, tuple) else (value,))
        }
        return {name: term for name, term in self.graph.sizes.items() if name in named}

    def _unique(self, base: str) -> str:
        name = unique_name(base, self.names.__contains__)
        self.names.add(name)
        return name

    def _value(self, value: Value, name: str, shape: Sequence[Any] | None = None) -> None:
        entry: dict[str, Any] = {"name": name, "dtype": "i32" if value.integer else "f32" if value.quant is None else "u8"}
        if shape is not None:
            entry["shape"] = list(shape)
        if value.quant is not None:
            entry["quant"] = self.quants[value.quant]
        self.value_ids[value] = len(self.values)
        self.values.append(entry)

    def _is_alias(self, node: Node) -> bool:
        """Whether a node is the layout pass's "alias": its operand under another shape in torch, and the same value in the engine."""
        if node.op == "alias":
            self.value_ids[node.output] = self.value_ids[node.inputs[0]]
        return node.op == "alias"

    def _node(self, node: Node) -> dict[str, Any]:
        inputs = [self.value_ids[value] for value in node.inputs]
        name = self._unique(f"{self.values[inputs[0]]['name']}.{node.op}" if node.traits.is_plumbing else node.name)
        constants, attrs = self._constants(node, name), _attrs(node)
        self._value(node.output, name)
        if node.output.nhwc:
            self.nhwc.add(name)
        if node.output.origin and node.op != "transpose":
            self.origins[name] = node.output.origin
        return {
            "op": node.op,
            "name": name,
            "inputs": inputs,
            "outputs": [self.value_ids[node.output]],
            "constants": constants,
            "attrs": attrs,
        }

    def _constants(self, node: Node, name: str) -> dict[str, int]:
        ids: dict[str, int] = {}
        for key, constant in node.constants.items():
            if isinstance(constant, Weight):
                codes = _to_engine_order(node, constant.codes)
                packing = {"dtype": "code", "bits": constant.bits, "packing": _packing(constant, codes)}
                ids["weight"] = self._shared(f"{name}.weight", packing, codes)
                ids["scale"] = self._constant(f"{name}.scale", {"dtype": "f32"}, constant.scale)
                if constant.base is not None:
                    ids["base"] = self._constant(f"{name}.base", {"dtype": "i32"}, constant.base)
            else:
                array = _to_engine_order(node, constant) if key == "weight" else constant
                if array.dtype == np.float32 and not np.isfinite(array).all():
                    raise ValueError(f"layer {node.describe()}: its {key} holds NaN or infinity")
                store = self._shared if key == "weight" else self._constant
                ids[key] = store(f"{name}.{key}", {"dtype": _DTYPES.get(array.dtype.name, "f32")}, array)
        return ids

    def _shared(self, name: str, form: dict[str, Any], array: NDArray[Any]) -> int:
        """Store weights once, however many layers use them."""
        content = hashlib.sha256(np.ascontiguousarray(array).data).digest()
        key = (*form.items(), array.dtype.str, array.shape, content)
        if key not in self.weights:
            self.weights[key] = self._constant(name, form, array)
        return self.weights[key]

    def _constant(self, name: str, form: dict[str, Any], array: NDArray[Any]) -> int:
        entry = {"name": name, "dtype": form["dtype"], "shape": list(array.shape)}
        entry.update({key: value for key, value in form.items() if key != "dtype"})
        self.entries.append(entry)
        self.arrays.append(np.asarray(array, order="C"))
        return len(self.entries) - 1


def _to_engine_order(node: Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Turn the weights of convolutions from OIHW to O, kh, kw, I."""
    return weight.transpose(0, 2, 3, 1) if node.op == "conv2d" else weight


def _packing(weight: Weight, codes: NDArray[Any]) -> str:
    """Choose how the file keeps a weight's codes; of ternary ones the smaller form, which depends on how many are zeros."""
    if not weight.ternary:
        return {8: "none", 4: "nibble"}.get(weight.bits, "dense")
    five_to_a_byte = -(-codes.size // 5)
    return "trit_rans" if len(_core.pack_trits(np.asarray(codes, np.int8, order="C"))) < five_to_a_byte else "trit5"


def float_bits(value: float) -> int:
    """Give the float32 bit pattern of a number, as docs/format.md writes float attributes."""
    return int(np.array([value], np.float32).view(np.uint32)[0])


def _attrs(node: Node) -> dict[str, Any]:
    bounds = ("lo", "hi") if node.traits.has_activation else ()
    attrs: dict[str, Any] = {key: _attr(value) for key, value in node.attrs.items() if key not in bounds}
    if bounds:
        lo, hi = node.bounds
        activation = "none" if (lo, hi) == (-_INFINITY, _INFINITY) else "relu" if (lo, hi) == (0, _INFINITY) else "clamp"
        clamped = activation == "clamp"
        attrs.update(activation=activation, lo=float_bits(lo) if clamped else 0, hi=float_bits(hi) if clamped else 0)
    if node.op == "pad":
        attrs["value"] = _pad_value(node)
    if node.traits.has_weights:
        weight = node.constants["weight"]
        attrs["step"] = weight.step if isinstance(weight, Weight) else 1
    return attrs


def _pad_value(node: Node) -> int:
    value, quant = real(node, "value"), node.output.quant
    if quant is None or node.attrs["mode"] != "constant":
        return float_bits(value)
    code = code_of(value, quant)
    assert code is not None
    return code


def _attr(value: Attr | None) -> Any:
    """Write an attribute as docs/format.md has it: an unknown dimension is a text, a float its bit pattern."""
    if isinstance(value, tuple):
        return [_attr(element) for element in value]
    if value is None:
        return "?"
    if isinstance(value, float):
        return float_bits(value)
    return value % 2**32 if isinstance(value, int) else value  # attributes are unsigned: a negative integer is its bit pattern
