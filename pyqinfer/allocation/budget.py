"""What an allocation may spend."""

from __future__ import annotations

from dataclasses import dataclass

_LIMITS = ("bops", "size_mb", "avg_weight_bits", "latency_ms")


@dataclass(frozen=True)
class Budget:
    """Limits of a quantized network; several hold at once.

    Args:
        bops: bit operations (MACs x weight bits x activation bits over conv and linear layers) as a fraction of the float network's,
            which counts 32 x 32 bits. Uniform 8/8 is 0.0625, 4/4 is 0.0156.
        size_mb: weights of conv and linear layers in MiB (2**20 bytes), each at its bits.
        avg_weight_bits: bits per weight, averaged over all weights of conv and linear layers.
        latency_ms: time of one run for the example inputs in ms, predicted from times measured on this machine.
        threads, isa: of the session that ``latency_ms`` is about, see :class:`pyqinfer.Session`.

    Layers that keep their bits (``keep``, first and last layer) count in all of them.

    Raises:
        TypeError, ValueError: no limit at all, or one that is not a number above 0.
    """

    bops: float | None = None
    size_mb: float | None = None
    avg_weight_bits: float | None = None
    latency_ms: float | None = None
    threads: int = 1
    isa: str = "auto"

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("Budget: give at least one of bops, size_mb, avg_weight_bits, latency_ms")
        for name, value in self.limits.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Budget {name}: expected a number, got {type(value).__name__}")
            if not 0 < value < float("inf"):
                raise ValueError(f"Budget {name}: expected a number above 0, got {value}")
        if self.threads < 1:
            raise ValueError(f"Budget threads: expected at least 1, got {self.threads}")
        if self.bops is not None and self.bops > 1:
            raise ValueError(f"Budget bops: expected a fraction of the float network's BOPs, at most 1, got {self.bops}")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {name: getattr(self, name) for name in _LIMITS}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        units = {
            "bops": "{:g} of the float BOPs",
            "size_mb": "{:g} MiB",
            "avg_weight_bits": "{:g} bits per weight",
            "latency_ms": "{:g} ms",
        }
        return ", ".join(units[name].format(value) for name, value in self.limits.items())
