"""Engine graphs of a single node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyqinfer.ops import OPS, Reads

_CONSTANT_TYPES = {"int8": "code", "float32": "f32", "int32": "i32", "uint8": "u8"}


@dataclass(frozen=True)
class Quant:
    """Parameters of a uint8 tensor; `scale` is a float32 value."""

    scale: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    def to_graph(self) -> dict[str, int]:
        return {"bits": 8, "zero_point": self.zero_point, "qmin": self.qmin, "qmax": self.qmax}


@dataclass(frozen=True)
class OneOp:
    """One node: input arrays with their parameters (None: float32, or int32 indices), constants (int8 = codes), attributes,
    output parameters."""

    op: str
    inputs: list[tuple[np.ndarray, Quant | None]]
    output: Quant | None = None
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    integer: bool = False  # whether the output is int32

    def graph(self) -> dict[str, Any]:
        """docs/format.md, "Graph": inputs ``x0``, ``x1``, node ``op`` (a ``constant`` reads none), output ``y``."""
        params = [quant for _, quant in self.inputs if quant is not None]
        same = self._same_quant
        if self.output is not None and not same:
            params.append(self.output)
        values: list[dict[str, Any]] = []
        for i, (array, quant) in enumerate(self.inputs):
            values.append({"name": f"x{i}", "dtype": "i32" if array.dtype == np.int32 else "f32", "shape": list(array.shape)})
            if quant is not None:
                values[-1] |= {"dtype": "u8", "quant": sum(v["dtype"] == "u8" for v in values)}
        quantized = (self.inputs[0][1] if same else self.output) is not None
        plain = {"name": "y", "dtype": "i32" if self.integer else "f32"}
        values.append({"name": "y", "dtype": "u8", "quant": len(params) - 1} if quantized else plain)
        named = self._named_constants()
        return {
            "symbols": [],
            "quants": [quant.to_graph() for quant in params],
            "constants": [_entry(name, array) for name, array in named.items()],
            "values": values,
            "nodes": [
                {
                    "op": self.op,
                    "name": "op",
                    "inputs": [] if OPS[self.op].reads is Reads.NOTHING else list(range(len(self.inputs))),
                    "outputs": [len(self.inputs)],
                    "constants": {key: list(named).index(f"op.{key}") for key in self.constants},
                    "attrs": self.attrs,
                }
            ],
            "inputs": [{"name": f"x{i}", "value": i} for i in range(len(self.inputs))],
            "outputs": [{"name": "y", "value": len(self.inputs)}],
            "samples": [],
        }

    def constant_arrays(self) -> list[np.ndarray]:
        return list(self._named_constants().values())

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{i}": array for i, (array, _) in enumerate(self.inputs)}

    @property
    def _same_quant(self) -> bool:
        return OPS[self.op].picks_with(self.attrs)

    def _named_constants(self) -> dict[str, np.ndarray]:
        named = {f"op.{key}": array for key, array in self.constants.items()}
        scales = [quant.scale for _, quant in self.inputs if quant is not None]
        if self.output is not None and not self._same_quant:
            scales.append(self.output.scale)
        return named | ({"activation_scales": np.array(scales, np.float32)} if scales else {})


def _entry(name: str, array: np.ndarray) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "dtype": _CONSTANT_TYPES[array.dtype.name], "shape": list(array.shape)}
    return entry | ({"bits": 8, "packing": "none"} if entry["dtype"] == "code" else {})
