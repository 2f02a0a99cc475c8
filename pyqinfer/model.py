"""A converted model: an immutable, validated ``.pqi`` file in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from pyqinfer import _core
from pyqinfer.accounting import BOPS_CONVENTION, LayerCost, layer_costs
from pyqinfer.errors import ModelFormatError
from pyqinfer.onnx_export import to_onnx
from pyqinfer.report import Column, Report
from pyqinfer.sizes import size_report

Shapes = Mapping[str, Sequence[int]]


class Model:
    """A model that has passed the validator. Made by :func:`pyqinfer.convert` or :func:`pyqinfer.load`, run by :class:`pyqinfer.Session`.

    Shapes of inputs are NCHW where torch's are; the first dimension is usually the symbol of the batch.
    """

    def __init__(self, native: _core.Model) -> None:
        if not isinstance(native, _core.Model):
            raise TypeError("a Model comes from pyqinfer.load(path), Model.from_bytes(data) or pyqinfer.convert(module, ...)")
        self._native = native

    @classmethod
    def from_bytes(cls, data: bytes) -> Model:
        """Validate the bytes of a ``.pqi`` file. Raises ModelFormatError, IntegrityError or UnsupportedError."""
        return cls(_core.Model.from_bytes(data))

    def to_onnx(self) -> bytes:
        """The model as an ONNX file: quantize and dequantize nodes around the layers, with a Clip between them where bits are below 8.

        ONNX Runtime computes the same within one step of each quantized value.

        Raises:
            UnsupportedError: an op in a form that ONNX has no nodes for. ImportError: the onnx package is not installed.
        """
        return to_onnx(self.graph, [self._native.constant(i) for i in range(len(self.graph["constants"]))])

    @property
    def native(self) -> _core.Model:
        """The model in the native core."""
        return self._native

    @cached_property
    def graph(self) -> dict[str, Any]:
        """The graph as docs/format.md describes it, every shape filled in. Treat it as read-only."""
        graph: dict[str, Any] = json.loads(self._native.graph_json)
        return graph

    @cached_property
    def inputs(self) -> Mapping[str, tuple[int | str, ...]]:
        """Shapes by the names of inputs; a dimension is a number or the name of a symbol."""
        return self._ports("inputs")

    @cached_property
    def outputs(self) -> Mapping[str, tuple[int | str, ...]]:
        """Shapes by the names of outputs; ``"?"`` is a dimension that depends on the inputs' shapes."""
        return self._ports("outputs")

    def _ports(self, key: str) -> Mapping[str, tuple[int | str, ...]]:
        return MappingProxyType({p["name"]: tuple(self.graph["values"][p["value"]]["shape"]) for p in self.graph[key]})

    @property
    def nbytes(self) -> int:
        """The size of the file in bytes."""
        return self._native.nbytes

    def constant(self, index: int) -> NDArray[Any]:
        """Give the unpacked constant of that index: int8 codes, float32, int32 or uint8."""
        return self._native.constant(index)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically: the target is the old file or the new one, never a part. Raises OSError."""
        self._native.save(_path_text(path))

    def to_bytes(self) -> bytes:
        """Give the bytes of the file."""
        return self._native.to_bytes()

    def input_shapes(self, shapes: Shapes | None = None) -> dict[str, tuple[int, ...]]:
        """Give concrete input shapes: those given, else the file's with a batch of 1.

        Raises ValueError if an input has another symbolic dimension and no shape is given.
        """
        given = dict(shapes or {})
        unknown = sorted(set(given) - set(self.inputs))
        if unknown:
            raise ValueError(f"no such input: {', '.join(unknown)}; the model's inputs are {', '.join(self.inputs)}")
        result = {}
        for name, shape in self.inputs.items():
            if name in given:
                result[name] = tuple(int(d) for d in given[name])
            elif any(isinstance(d, str) for d in shape[1:]):
                raise ValueError(f"input {name!r} has shape {shape}: say for which, e.g. shapes={{{name!r}: (1, 3, 224, 224)}}")
            else:
                result[name] = tuple(1 if isinstance(d, str) else d for d in shape)
        return result

    def layer_costs(self, shapes: Shapes | None = None) -> list[LayerCost]:
        """Count MACs, bits and bytes of every node for the given input shapes (by default with a batch of 1)."""
        concrete = self._native.infer_shapes(self.input_shapes(shapes))
        sizes = [self._native.constant_nbytes(i) for i in range(len(self.graph["constants"]))]
        return layer_costs(self.graph, concrete, sizes)

    def macs(self, shapes: Shapes | None = None) -> int:
        """Count the multiply-accumulates of all conv and linear layers."""
        return sum(cost.macs for cost in self.layer_costs(shapes))

    def bops(self, shapes: Shapes | None = None) -> int:
        """Count MACs x weight bits x activation bits, float taken as 32 bit (convention ``mac*bw*ba/v1``)."""
        return sum(cost.bops for cost in self.layer_costs(shapes))

    def integer_share(self, shapes: Shapes | None = None) -> float:
        """Give the share of the MACs that run in integers, 0 to 1 (1 for a model without MACs)."""
        costs = self.layer_costs(shapes)
        total = sum(cost.macs for cost in costs)
        return sum(cost.macs for cost in costs if cost.integer) / total if total else 1.0

    def summary(self, shapes: Shapes | None = None) -> Report:
        """Describe the model with one row per layer: op, output shape, bits, MACs, BOPs, bytes in the file."""
        costs = self.layer_costs(shapes)
        columns = [
            Column("name", "layer", numeric=False),
            Column("op", "op", numeric=False),
            Column("output", "output", numeric=False),
            Column("bits", "bits w/a", numeric=False),
            Column("macs", "MACs (M)", ",.2f", scale=1e6),
            Column("bops", "BOPs (G)", ",.3f", scale=1e9),
            Column("bytes", "bytes", ",d"),
        ]
        rows: list[dict[str, str | int | float | None]] = [
            {
                "name": c.name,
                "op": c.op,
                "output": "x".join(str(d) for d in c.output_shape),
                "bits": f"{c.weight_bits}/{c.act_bits}" if c.macs else f"-/{c.act_bits}",
                "macs": c.macs or None,
                "bops": c.bops if c.macs else None,
                "bytes": c.bytes or None,
            }
            for c in costs
        ]
        macs = sum(c.macs for c in costs)
        integer = sum(c.macs for c in costs if c.integer)
        mac_layers = [c for c in costs if c.macs]
        floats: dict[str, list[str]] = {}
        for cost in mac_layers:
            if not cost.integer:
                floats.setdefault(cost.float_reason, []).append(cost.name)
        count = sum(len(names) for names in floats.values())
        in_float = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in floats.items())
        notes = [
            f"{macs / 1e6:,.2f} M MACs, {sum(c.bops for c in costs) / 1e9:,.3f} G BOPs, {self.nbytes:,} bytes",
            f"{len(mac_layers) - count}/{len(mac_layers)} conv and linear layers run in integers"
            f" ({100 * integer / macs if macs else 100:.1f} % of MACs)" + (f"; in float: {in_float}" if floats else ""),
        ]
        facts = {"bops_convention": BOPS_CONVENTION, "inputs": {k: list(v) for k, v in self.input_shapes(shapes).items()}}
        return Report("Layers", columns, rows, facts, notes)

    def size_report(self, float_file_bytes: int | None = None) -> Report:
        """Compare the bytes of each layer in the file with those in 32-bit floats; the last rows make the sum equal to the file's size.

        Ternary layers are also given in two bits a weight, those behind zlib and xz, and the entropy of the codes' counts.

        Args:
            float_file_bytes: size of the file that holds the float network's state dict, for the ratio to that.
        """
        sizes = [self._native.constant_nbytes(i) for i in range(len(self.graph["constants"]))]
        return size_report(self.graph, sizes, self.constant, self.nbytes, float_file_bytes)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{k}{list(v)}" for k, v in self.inputs.items())
        outputs = ", ".join(f"{k}{list(v)}" for k, v in self.outputs.items())
        return f"<pyqinfer.Model {inputs} -> {outputs}, {len(self.graph['nodes'])} nodes, {self.nbytes:,} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Model is not pickled: save it with model.save(path) and load the path where it is needed")


def load(path: str | os.PathLike[str]) -> Model:
    """Read and validate a ``.pqi`` file.

    Raises OSError, ModelFormatError (the file breaks docs/format.md), IntegrityError (a checksum differs) or UnsupportedError (a newer
    version, an unknown op). The file is read whole: changing or deleting it afterwards is harmless.
    """
    text = _path_text(path)
    if text.lower().endswith(".onnx"):
        raise ModelFormatError(f"{text} is an ONNX file: pyqinfer.convert(path) makes a model of it")
    return Model(_core.Model.load(text))


def _path_text(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"path: expected str or os.PathLike of str, got {type(path).__name__}")
    return text
