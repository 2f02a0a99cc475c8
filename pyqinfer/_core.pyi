"""Native core: thin bindings over csrc/api. Arrays in, arrays out; errors are those of pyqinfer.errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

__version__: str

def cpu_info() -> dict[str, Any]:
    """What this machine and build offer.

    ``{"brand": str, "isas": [names this CPU runs and this build has, weakest first], "best": name of the one that ``auto``
    takes, "warning": "" or why that is not the last of ``isas``, "threads": usable CPUs, "compiler": str}``.
    """

def op_names() -> list[str]:
    """Every op of the engine, in the order of docs/format.md."""

def pack_trits(codes: NDArray[Any]) -> bytes:
    """The stream of docs/format.md, "Entropy-coded trits", of int8 codes of -1, 0, 1 in row-major order. ValueError for other codes."""

def unpack_trits(stream: bytes, count: int) -> NDArray[Any]:
    """The ``count`` int8 codes of a stream. ModelFormatError where ``stream`` is not that of ``count`` codes."""

def write_model(graph_json: str, constants: Sequence[NDArray[Any]], producer: str) -> bytes:
    """Pack logical constants (one array per entry of the graph's ``constants``: int8 for ``code``, float32, int32, uint8), infer the
    shapes of all values that nodes write (their ``shape`` may be left out of ``graph_json``), validate, and return the file's bytes.
    The constant ``activation_scales`` is one of the list."""

class Model:
    @staticmethod
    def from_bytes(data: bytes) -> Model: ...
    @staticmethod
    def load(path: str) -> Model: ...
    def save(self, path: str) -> None:
        """Atomic: temporary file, fsync, rename."""
    def to_bytes(self) -> bytes: ...
    @property
    def graph_json(self) -> str:
        """The graph with every shape filled in, and each quant with its float32 ``scale_bits`` pattern added."""
    def constant(self, index: int) -> NDArray[Any]:
        """Unpacked logical array: int8 for ``code``."""
    def constant_nbytes(self, index: int) -> int:
        """Bytes in the file."""
    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
    def infer_shapes(self, shapes: Mapping[str, Sequence[int]]) -> list[tuple[int, ...]]:
        """Concrete shape of every value of the graph (by value index) for the given input shapes."""

class CancelFlag:
    """A switch that any thread may turn: a run that was given it ends before its next layer."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...

class Session:
    def __init__(self, model: Model, threads: int, isa: str, algorithm: str = "auto", fip: str = "auto") -> None:
        """``isa``: a name or ``"auto"``. ``threads`` >= 1. ``algorithm``, ``fip``: see :class:`pyqinfer.Session`."""
    @property
    def isa(self) -> str: ...
    @property
    def warning(self) -> str:
        """Empty, or which kernel of the instruction set asked for is wrong on this machine, so that a weaker set is used."""
    @property
    def threads(self) -> int: ...
    def run(
        self, inputs: Mapping[str, NDArray[Any]], capture: Sequence[str], max_memory: int = 0, cancel: CancelFlag | None = None
    ) -> dict[str, NDArray[Any]]:
        """Graph outputs by name, then captured values by node name. Releases the GIL; outputs are fresh arrays.
        TypeError: not an array of the input's dtype. ValueError: a missing or unknown name, or a shape that does not fit. MemoryError:
        more than ``max_memory`` bytes (0: no bound). CancelledError. KeyboardInterrupt and other signals' exceptions end the run."""
    def layers(self) -> list[dict[str, Any]]:
        """One dict per node: name, op, weight_bits, act_bits (0 = float), executed_as, reason, weight_bytes (packed, in memory)."""
    def profile(
        self, inputs: Mapping[str, NDArray[Any]], repeat: int, max_memory: int = 0, cancel: CancelFlag | None = None
    ) -> list[tuple[str, float]]:
        """Median milliseconds of each node over ``repeat`` runs."""
    def memory(self) -> dict[str, int]:
        """Bytes: ``weight_bytes`` of all packed layers, ``arena_bytes`` of one run with the largest input shapes so far."""
