"""What an allocation of bits may spend: :class:`Budget`, and a row for each cost that it can limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cost:
    """One cost, and how it is written. :mod:`pyqinfer.allocation.costs` says how it is computed.

    Args:
        name: the field of :class:`Budget`, and the cost's name in problems and reports.
        word: its name in ``pyqinfer pareto --budgets``.
        limit, total: a limit, and what a network takes, as format strings.
        heading, axis: in tables and pictures of a frontier.
        examples: limits by ``word``, as an error message shows them.
        percent: "float" for a cost that is a fraction of the float network's, at most 1; "8/8" for a time, which a study measures on the
            8/8 network; None: a limit is never in per cent.
        candidates: pairs of weight and activation bits that layers choose among by default. Empty for a cost that weights alone have:
            their bits then follow from the limit, at activations of 8 bits.
    """

    name: str
    word: str
    limit: str
    total: str
    heading: str
    axis: str
    examples: str
    percent: Literal["float", "8/8"] | None = None
    candidates: tuple[str, ...] = ()


COSTS = (
    Cost(
        name="bops",
        word="bops",
        limit="{:g} of the float BOPs",
        total="{:.5f} of the float network's BOPs",
        heading="of float BOPs",
        axis="BOPs, as a fraction of the float network's",
        examples="bops=2%",
        percent="float",
        # Uniform 4/4 has choices that cost less and choices that cost more.
        candidates=(*(f"{weight}/{act}" for weight in (3, 4, 5, 6) for act in (4, 5, 6, 8)), "8/8"),
    ),
    Cost(
        name="size_mb",
        word="size",
        limit="{:g} MiB",
        total="{:.3f} MiB of weights",
        heading="MiB",
        axis="weights (MiB)",
        examples="size=0.15 (MiB)",
    ),
    Cost(
        name="avg_weight_bits",
        word="bits",
        limit="{:g} bits per weight",
        total="{:.3f} bits per weight",
        heading="bits per weight",
        axis="bits per weight",
        examples="bits=4",
    ),
    Cost(
        name="latency_ms",
        word="latency",
        limit="{:g} ms",
        total="{:.3f} ms",
        heading="ms",
        axis="predicted time (ms)",
        examples="latency=1.2 (ms) or latency=70% (of the 8/8 network)",
        percent="8/8",
        # Few, because each is measured: weights of 4 bits and activations of 6 or less are what the engine's fast algorithms ask for.
        candidates=("8/8", "6/8", "4/8", "6/6", "4/6", "4/4"),
    ),
)


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
            raise ValueError(f"Budget: give at least one of {', '.join(cost.name for cost in COSTS)}")
        for cost in self.costs:
            value = getattr(self, cost.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Budget {cost.name}: expected a number, got {type(value).__name__}")
            if not 0 < value < float("inf"):
                raise ValueError(f"Budget {cost.name}: expected a number above 0, got {value}")
            if cost.percent == "float" and value > 1:
                raise ValueError(f"Budget {cost.name}: expected a fraction of the float network's, at most 1, got {value}")
        if self.threads < 1:
            raise ValueError(f"Budget threads: expected at least 1, got {self.threads}")

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The rows of the limits that are set."""
        return tuple(cost for cost in COSTS if getattr(self, cost.name) is not None)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {cost.name: getattr(self, cost.name) for cost in self.costs}

    def __str__(self) -> str:
        return ", ".join(cost.limit.format(getattr(self, cost.name)) for cost in self.costs)


def check_budget(budget: object) -> Budget:
    """Raises TypeError for anything but a :class:`Budget`."""
    if not isinstance(budget, Budget):
        raise TypeError(f"budget: expected a pq.Budget such as pq.Budget(bops=0.04), got {type(budget).__name__}")
    return budget
