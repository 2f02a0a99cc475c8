"""Running a model: numpy in, numpy out; torch in, torch out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer import _core
from pyqinfer.accounting import in_float
from pyqinfer.model import Model, load
from pyqinfer.report import Column, Report
from pyqinfer.threads import bound_to, check_cpus, default_threads


@dataclass(frozen=True)
class RunOptions:
    """Limits of a run; results do not depend on them.

    Args:
        max_memory: the most bytes that a run may take: values between layers, scratch memory of threads, inputs and outputs. A run that
            needs more is refused (MemoryError) before anything is allocated for its shapes. None: no bound.
        cancel: a :class:`pyqinfer.CancelFlag`. Once another thread sets it, the run ends before its next layer (CancelledError).
    """

    max_memory: int | None = None
    cancel: _core.CancelFlag | None = None

    def __post_init__(self) -> None:
        if self.max_memory is not None and (isinstance(self.max_memory, bool) or not isinstance(self.max_memory, int)):
            raise TypeError(f"max_memory: expected int or None, got {type(self.max_memory).__name__}")
        if self.max_memory is not None and not 1 <= self.max_memory < 2**63:
            raise ValueError(f"max_memory: expected 1 to 2^63 - 1 bytes, got {self.max_memory}")
        if self.cancel is not None and not isinstance(self.cancel, _core.CancelFlag):
            raise TypeError(f"cancel: expected pyqinfer.CancelFlag or None, got {type(self.cancel).__name__}")


class Outputs(tuple[Any, ...]):
    """Several outputs in the model's order, also by their names: ``y[0]``, ``y["boxes"]``, ``y.boxes``."""

    names: tuple[str, ...]

    def __new__(cls, names: tuple[str, ...], values: Iterable[Any]) -> Outputs:
        made = super().__new__(cls, tuple(values))
        made.names = names
        return made

    def __getnewargs__(self) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        return self.names, tuple(self)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise KeyError(f"no output named {key!r}; the model's outputs are {', '.join(self.names)}")
        return self[self.names.index(key)]

    def __getattr__(self, name: str) -> Any:
        # Python asks for names of its own, such as __copy__, before the names are there.
        if name.startswith("__") or name not in self.names:
            raise AttributeError(name)
        return self[name]


def is_array(value: Any) -> bool:
    """Whether a value is a numpy array or a torch tensor. torch is looked up, never imported."""
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


class Session:
    """A model made ready for this machine: weights packed for an instruction set, memory planned per input shape.

    Args:
        model: from :func:`pyqinfer.load` or :func:`pyqinfer.convert`, or the path of a ``.pqi`` file.
        threads: number of threads, >= 1; default: one for each of ``cpus``, else see :func:`pyqinfer.threads.default_threads`.
            Results do not depend on it.
            The session's own threads wait awake between layers and sleep 0.2 ms after the last; more than the CPUs of the process
            sleep at once.
        isa: ``"auto"`` (``PYQINFER_ISA``, else the best this CPU has) or a name from ``pyqinfer.cpu_info()["isas"]``.
            Results do not depend on it.
        algorithm: of convolutions and linear layers on codes. ``"auto"``: for each layer the fastest that is proved exact; ``"direct"``,
            the plain products; or an algorithm by name, such as ``"winograd"`` or ``"deferred"``, for every layer whose shape it fits. The
            error for an unknown name lists them all, docs/numerics.md describes them. Results do not depend on it.
        fip: whether ``"auto"`` may choose Winograd's inner product: ``"auto"`` (by the CPU's family), ``"on"`` (as on a
            CPU where it pays) or ``"off"``.
        run_options: limits of every run; default: none.
        cpus: numbers of the CPUs to run on, such as ``[0, 1]``: the session's threads stay there, and the calling thread goes there for
            the length of a run. Default: wherever the process may run.

    Warns:
        RuntimeWarning: a kernel of that instruction set gives wrong results on this machine; a weaker set is used.

    Raises:
        UnsupportedError: this CPU or build lacks the instruction set, or the instruction set the forced algorithm.
        ValueError: an unknown algorithm, or a forced one that is not exact for a layer (the message has the numbers).

    Any number of Python threads may call one session at once, and change an input meanwhile: its results are then anything, but memory
    stays safe. Ctrl-C ends a run before its next layer.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        threads: int | None = None,
        isa: str = "auto",
        algorithm: str = "auto",
        fip: str = "auto",
        run_options: RunOptions | None = None,
        cpus: Collection[int] | None = None,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = load(model)
        if not isinstance(model, Model):
            raise TypeError(f"model: expected a Model or the path of a .pqi file, got {type(model).__name__}; pq.convert makes a Model")
        self.cpus = None if cpus is None else check_cpus(cpus)
        if threads is None:
            threads = default_threads() if self.cpus is None else len(self.cpus)
        if isinstance(threads, bool) or not isinstance(threads, int):
            raise TypeError(f"threads: expected int, got {type(threads).__name__}")
        if not 1 <= threads <= 1024:
            raise ValueError(f"threads: expected 1 to 1024, got {threads}")
        for what, text in (("isa", isa), ("algorithm", algorithm), ("fip", fip)):
            if not isinstance(text, str):
                raise TypeError(f"{what}: expected str, got {type(text).__name__}")
        if run_options is not None and not isinstance(run_options, RunOptions):
            raise TypeError(f"run_options: expected pyqinfer.RunOptions, got {type(run_options).__name__}")
        if isa == "auto":
            isa = os.environ.get("PYQINFER_ISA", "auto")
        self.model = model
        self.run_options = run_options or RunOptions()
        with self._bound():
            self._native = _core.Session(model.native, threads, isa, algorithm, fip)
        if self._native.warning:
            warnings.warn(self._native.warning, RuntimeWarning, stacklevel=2)
        ports, values = model.graph["inputs"], model.graph["values"]
        self._indices = frozenset(port["name"] for port in ports if values[port["value"]]["dtype"] == "i32")

    def _bound(self) -> AbstractContextManager[None]:
        return nullcontext() if self.cpus is None else bound_to(self.cpus)

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._native.isa

    @property
    def threads(self) -> int:
        return self._native.threads

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run on inputs in the model's order or by name: ``s(x)``, ``s([x])``, ``s(x=x)``, ``s({"x": x})``.

        Returns one array, or :class:`Outputs` where the model has several outputs.
        """
        if named and inputs:
            raise TypeError("inputs are given by position or by name, not both")
        result = self.run(named or (inputs[0] if len(inputs) == 1 else inputs))
        outputs = Outputs(tuple(self.model.outputs), (result[name] for name in self.model.outputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def name_inputs(self, inputs: Any) -> dict[str, Any]:
        """Give inputs under the model's input names.

        Args:
            inputs: a mapping by name, a tuple or list of arrays in the model's order, or an array.

        Raises:
            ValueError: more or fewer than the model has.
        """
        if isinstance(inputs, Mapping):
            return dict(inputs)
        # A list that holds no array is one input of the wrong kind, which is said where inputs are checked.
        if not isinstance(inputs, (tuple, list)) or (inputs and not any(is_array(x) for x in inputs)):
            inputs = (inputs,)
        names = self.model.inputs
        if len(inputs) != len(names):
            raise ValueError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        return dict(zip(names, inputs, strict=True))

    def run(self, inputs: Any, capture: Sequence[str] = (), options: RunOptions | None = None) -> dict[str, Any]:
        """Run on inputs, and return named outputs.

        Args:
            inputs: name -> array, or arrays in the model's order (see :meth:`name_inputs`), of the dtype and shape the model asks for:
                float32 or uint8 (nothing is converted silently), or int64 or int32 where it takes indices.
            capture: names of layers whose output is returned as well, under the layer's name: float32, or the uint8 codes of a
                quantized value (see :meth:`dequantize`).
            options: limits of this run, in place of the session's.

        Raises:
            TypeError: not an array, or another dtype. ValueError: a missing or unknown name, another shape, an index
                outside its table. MemoryError: more than ``options.max_memory``, or than the system has. CancelledError.
        """
        if options is None:
            options = self.run_options
        if isinstance(capture, str):
            raise TypeError(f"capture: expected a list of layer names such as [{capture!r}], got str")
        arrays, as_torch = self.arrays(self.name_inputs(inputs))
        with self._bound():
            result = self._native.run(arrays, list(capture), options.max_memory or 0, options.cancel)
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
        """Give one dict per layer: name, op, weight_bits, act_bits (0 for float), executed_as, reason, weight_bytes (packed, in memory).

        The reason says why the algorithm was chosen, and of a layer that computes in float, why it does.
        """
        layers = self._native.layers()
        for layer, node in zip(layers, self.model.graph["nodes"], strict=True):
            layer["reason"] = "; ".join(text for text in (in_float(self.model.graph, node), layer["reason"]) if text)
        return layers

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
    """Give int64 integers and truth values as int32. Raises ValueError for one that does not fit."""
    if indices.dtype not in (np.int64, np.bool_):
        return indices
    narrow = indices.astype(np.int32)
    if not np.array_equal(narrow, indices):
        raise ValueError(f"input {name!r}: {indices[narrow != indices].flat[0]} does not fit int32")
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
        # Negation and conjugation may be pending: numpy has no such views.
        try:
            array: NDArray[Any] = value.detach().resolve_conj().resolve_neg().numpy()
        except RuntimeError as error:  # a nested tensor, or a subclass without memory of its own
            raise TypeError(f"input {name!r}: this tensor is no array: {error}") from error
        return array, True
    raise TypeError(f"input {name!r}: expected a numpy array or a torch tensor, got {type(value).__name__}")
