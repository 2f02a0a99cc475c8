"""What a study compares: methods at fixed bits and under budgets, and the words by which users name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pyqinfer.bits import LayerBits, parse_bits
from pyqinfer.budget import COSTS, Budget, Cost
from pyqinfer.methods.registry import METHODS, find_method

FLOAT_METHOD = "fp32"
_GIVEN_DATA = "+data"  # suffix of a method that could make its own data: it is given the calibration images
_COSTS: dict[str, Cost] = {cost.word: cost for cost in COSTS}


def method_class(name: str) -> Any:
    """The class behind a method's name in a grid."""
    return find_method(name.removesuffix(_GIVEN_DATA)).load()


@cache
def method_names() -> tuple[str, ...]:
    """Methods that a grid can have, by their words in :mod:`pyqinfer.methods.registry`: those that need no more than a study has.

    One that can do without calibration images, such as "zeroq", is there a second time as "zeroq+data".
    """
    names: list[str] = []
    for row in METHODS:
        method = row.load()
        if method.needs <= {"calibration", "budget"}:
            names += [row.word] if method.needs & {"calibration"} else [row.word, row.word + _GIVEN_DATA]
    return tuple(names)


@cache
def allocating_names() -> tuple[str, ...]:
    """Those of :func:`method_names` that choose bits under a budget."""
    return tuple(name for name in method_names() if "budget" in method_class(name).reads)


@dataclass(frozen=True)
class Limit:
    """One budget of a grid.

    Args:
        kind: the word of a cost of :mod:`pyqinfer.budget`: ``bops``, ``size``, ``bits`` or ``latency``.
        value: in the units of :class:`pyqinfer.Budget`; with `relative`, a fraction of what the 8/8 network takes.
    """

    kind: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        if self.relative or _COSTS[self.kind].percent == "float":
            return f"{self.kind}={100 * self.value:g}%"
        return f"{self.kind}={self.value:g}"

    def budget(self, int8_ms: float | None = None, threads: int = 1, isa: str = "auto") -> Budget:
        """The limit as a :class:`pyqinfer.Budget`. `int8_ms`: latency of the 8/8 network, for a relative limit."""
        value = self.value
        if self.relative:
            if int8_ms is None:
                raise ValueError(f"{self}: needs the latency of the 8/8 network")
            value *= int8_ms
        return Budget(**{_COSTS[self.kind].name: value}, threads=threads, isa=isa)


def parse_limit(text: str) -> Limit:
    """``bops=0.02``, ``bops=2%`` (of the float network's), ``size=0.15`` (MiB), ``bits=4`` (per weight), ``latency=1.2`` (ms), or
    ``latency=70%`` (of the 8/8 network's time).

    Raises:
        ValueError: anything else.
    """
    kind, separator, value = (part.strip().lower() for part in text.partition("="))
    percent = value.endswith("%")
    try:
        number = float(value.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        number = 0.0
    cost = _COSTS.get(kind) if separator else None
    if cost is None or not 0 < number < float("inf") or (percent and cost.percent is None):
        raise ValueError(f"budget {text!r}: expected {', '.join(cost.examples for cost in COSTS)}")
    return Limit(kind, number, percent and cost.percent == "8/8")


@dataclass(frozen=True)
class Entry:
    """One row: a method at fixed bits or under a budget.

    Args:
        method: ``fp32`` or one of :func:`method_names`.
        bits: those of every layer but the first and the last, which the method keeps at 8/8 by default.
        limit: in place of `bits`, for methods that allocate.
        options: fields of the method's configuration, such as ``{"rounding": "learned"}``.
        label: printed behind the name, in place of the options.
    """

    method: str
    bits: LayerBits | None = None
    limit: Limit | None = None
    options: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    isa: str = field(default="auto", kw_only=True)  # whose kernels a latency budget is measured on

    def __post_init__(self) -> None:
        if self.method != FLOAT_METHOD and self.method not in method_names():
            raise ValueError(f"method {self.method!r}: expected one of {', '.join(method_names())}")
        if (self.method == FLOAT_METHOD) != (self.bits is None and self.limit is None) or (
            self.bits is not None and self.limit is not None
        ):
            raise ValueError(f"{self.method}: expected either bits or a budget")
        if self.limit is not None and self.method not in allocating_names():
            raise ValueError(f"{self.method} has fixed bits: a budget is for {', '.join(allocating_names())}")

    @property
    def target(self) -> str:
        """The bits or the limit, as the name says them."""
        by_time = self.limit is not None and self.limit.kind == "latency" and self.isa != "auto"
        return str(self.bits or self.limit or "") + (f" on {self.isa}" if by_time else "")

    @property
    def name(self) -> str:
        words = [self.method, self.target]
        words.append(self.label or " ".join(f"{key}={value}" for key, value in self.options))
        return " ".join(word for word in words if word)

    @property
    def needs_data(self) -> bool:
        """Whether the method is given calibration images."""
        return self.method.endswith(_GIVEN_DATA) or "calibration" in method_class(self.method).needs

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in self.name.replace("/", "a").replace("%", "pct"))

    def configuration(self) -> Any:
        """The method's configuration for :func:`pyqinfer.quantize`; under a budget it has its defaults for bits."""
        options = dict(self.options)
        if self.bits is not None:
            options = {"weight_bits": self.bits.weight, "act_bits": self.bits.act, **options}
        return method_class(self.method)(**options)


def grid(bits: Iterable[str], methods: Sequence[str], budgets: Iterable[str] = ()) -> list[Entry]:
    """The float network, every method that can at every pair of bits, and every allocating method under every budget.

    Args:
        bits: weight/activation bits, e.g. ``8/8``, ``t/4``.
        methods: of :func:`method_names`.
        budgets: see `parse_limit`.

    Raises:
        ValueError: a word that means nothing, or budgets without a method that allocates.
    """
    unknown = [method for method in methods if method not in method_names()]
    if unknown:
        raise ValueError(f"method {unknown[0]!r}: expected some of {', '.join(method_names())}")
    entries = [Entry(FLOAT_METHOD)]
    # At fixed bits a method that needs a budget has nothing to choose.
    fixed = [method for method in methods if "budget" not in method_class(method).needs]
    entries += [Entry(method, parse_bits(pair)) for pair in bits for method in fixed]
    limits = [parse_limit(text) for text in budgets]
    allocating = [method for method in methods if method in allocating_names()]
    if limits and not allocating:
        raise ValueError(f"budgets need a method that chooses bits: {' or '.join(allocating_names())}")
    entries += [Entry(method, limit=limit) for limit in limits for method in allocating]
    return list(dict.fromkeys(entries))
