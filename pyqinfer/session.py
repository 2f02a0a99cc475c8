"""Running a model: numpy in, numpy out; torch in, torch out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer import _core
from pyqinfer.model import Model
from pyqinfer.report import Column, Report


def default_threads() -> int:
    """Give ``PYQINFER_NUM_THREADS``, else the number of CPUs this process may use, at most 8."""
    text = os.environ.get("PYQINFER_NUM_THREADS")
    if text is None:
        return min(int(_core.cpu_info()["threads"]), 8)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"PYQINFER_NUM_THREADS={text!r}: expected a number of threads >= 1")
    return int(text)


class Session:
    """A model made ready for this machine: weights packed for an instruction set, memory planned per input shape.

    Args:
        model: from :func:`pyqinfer.load` or :func:`pyqinfer.convert`.
        threads: number of threads, >= 1; default: see :func:`default_threads`. Results do not depend on it.
            The session's own threads wait awake between layers and sleep 0.2 ms after the last; more than the CPUs of the process
            sleep at once.
        isa: ``"auto"`` (``PYQINFER_ISA``, else the best this CPU has) or a name from ``pyqinfer.cpu_info()["isas"]``.
            Results do not depend on it.
        algorithm: of convolutions and linear layers on codes. ``"auto"``: for each layer the fastest that is proved exact; ``"direct"``,
            the plain products; or an algorithm by name, such as ``"winograd"`` or ``"deferred"``, for every layer whose shape it fits. The
            error for an unknown name lists them all, docs/numerics.md describes them. Results do not depend on it.
        fip: whether ``"auto"`` may choose Winograd's inner product: ``"auto"`` (by the CPU's family), ``"on"`` (as on a
            CPU where it pays) or ``"off"``.

    Warns:
        RuntimeWarning: a kernel of that instruction set gives wrong results on this machine; a weaker set is used.

    Raises:
        UnsupportedError: this CPU or build lacks the instruction set, or the instruction set the forced algorithm.
        ValueError: an unknown algorithm, or a forced one that is not exact for a layer (the message has the numbers).

    Any number of Python threads may call one session at once.
    """

    def __init__(self, model: Model, threads: int | None = None, isa: str = "auto", algorithm: str = "auto", fip: str = "auto") -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model: expected pyqinfer.Model, got {type(model).__name__}; load a file with pyqinfer.load(path)")
        if threads is None:
            threads = default_threads()
        if isinstance(threads, bool) or not isinstance(threads, int):
            raise TypeError(f"threads: expected int, got {type(threads).__name__}")
        if not 1 <= threads <= 1024:
            raise ValueError(f"threads: expected 1 to 1024, got {threads}")
        if isa == "auto":
            isa = os.environ.get("PYQINFER_ISA", "auto")
        self.model = model
        self._native = _core.Session(model.native, threads, isa, algorithm, fip)
        if self._native.warning:
            warnings.warn(self._native.warning, RuntimeWarning, stacklevel=2)
        ports, values = model.graph["inputs"], model.graph["values"]
        self._indices = frozenset(port["name"] for port in ports if values[port["value"]]["dtype"] == "i32")

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._native.isa

    @property
    def threads(self) -> int:
        return self._native.threads

    def __call__(self, *inputs: Any) -> Any:
        """Run on inputs in the model's order. Returns one array, or a tuple where the model has several outputs."""
        result = self.run(self.name_inputs(inputs))
        outputs = tuple(result[name] for name in self.model.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def name_inputs(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Give positional inputs under the model's input names. Raises ValueError if there are more or fewer than the model has."""
        names = self.model.inputs
        if len(inputs) != len(names):
            raise ValueError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        return dict(zip(names, inputs, strict=True))

    def run(self, inputs: Mapping[str, Any], capture: Sequence[str] = ()) -> dict[str, Any]:
        """Run on named inputs, and return named outputs.

        Args:
            inputs: name -> array of the dtype and shape the model asks for: float32 or uint8 (nothing is converted silently), or
                int64 or int32 where it takes indices.
            capture: names of layers whose output is returned as well, under the layer's name: float32, or the uint8 codes of a
                quantized value (see :meth:`dequantize`).

        Raises:
            TypeError: not an array, or another dtype. ValueError: a missing or unknown name, another shape, an index
                outside its table.
        """
        arrays, as_torch = self.arrays(inputs)
        result = self._native.run(arrays, list(capture))
        if as_torch:
            torch = sys.modules["torch"]
            return {name: torch.from_numpy(array) for name, array in result.items()}
        return dict(result)

    def arrays(self, inputs: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], bool]:
        """Give the inputs as the core takes them, and whether any was a torch tensor. Errors are those of :meth:`run`."""
        arrays, as_torch = {}, False
        for name, value in inputs.items():
            array, is_torch = _as_numpy(name, value)
            arrays[name] = _narrowed(name, array) if name in self._indices else array
            as_torch = as_torch or is_torch
        return arrays, as_torch

    def dequantize(self, layer: str, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn codes captured at a layer's output into float32 values."""
        graph = self.model.graph
        for node in graph["nodes"]:
            if node["name"] == layer:
                value = graph["values"][node["outputs"][0]]
                if value["dtype"] != "u8":
                    raise ValueError(f"the output of layer {layer!r} is float32 already")
                quant = graph["quants"][value["quant"]]
                scale = np.array([quant["scale_bits"]], np.uint32).view(np.float32)[0]
                values: NDArray[np.float32] = (codes.astype(np.int32) - quant["zero_point"]).astype(np.float32) * scale
                return values
        raise ValueError(f"no layer named {layer!r}")

    def layers(self) -> list[dict[str, Any]]:
        """Give one dict per layer: name, op, weight_bits, act_bits (0 for float), executed_as, reason, weight_bytes (packed, in memory)."""
        return self._native.layers()

    def layer_report(self) -> Report:
        """Give :meth:`layers` as a table."""
        columns = [
            Column("name", "layer", numeric=False),
            Column("op", "op", numeric=False),
            Column("weight_bits", "weight bits"),
            Column("act_bits", "act. bits"),
            Column("executed_as", "executed as", numeric=False),
            Column("weight_bytes", "packed bytes", ",d"),
            Column("reason", "why", numeric=False),
        ]
        return Report(f"Layers as executed ({self.isa}, {self.threads} threads)", columns, self.layers(), {"isa": self.isa})

    def memory(self) -> dict[str, int]:
        """Give the bytes of packed weights and of the largest arena planned so far."""
        return self._native.memory()

    @property
    def native(self) -> _core.Session:
        """The session in the native core."""
        return self._native

    def __repr__(self) -> str:
        return f"<pyqinfer.Session isa={self.isa} threads={self.threads} of {self.model!r}>"


def _narrowed(name: str, indices: NDArray[Any]) -> NDArray[Any]:
    """Give int64 indices as int32. Raises ValueError for one that does not fit."""
    if indices.dtype != np.int64:
        return indices
    narrow = indices.astype(np.int32)
    if not np.array_equal(narrow, indices):
        raise ValueError(f"input {name!r}: index {indices[narrow != indices].flat[0]} does not fit int32")
    return narrow


def _as_numpy(name: str, value: Any) -> tuple[NDArray[Any], bool]:
    """Give the value as a numpy array, and whether it was a torch tensor. torch is looked up, never imported."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"input {name!r}: masked arrays are not supported; fill it first")
    if isinstance(value, np.ndarray):
        return value, False
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise TypeError(f"input {name!r}: expected a CPU tensor, got one on {value.device}; call .cpu() first")
        array: NDArray[Any] = value.detach().numpy()
        return array, True
    raise TypeError(f"input {name!r}: expected a numpy array or a torch tensor, got {type(value).__name__}")
