"""What is compared on each network."""

from __future__ import annotations

from collections.abc import Sequence

from pyqinfer.bits import parse_bits
from pyqinfer.study.grid import FLOAT_METHOD, Entry, parse_limit

LEARNED = (("rounding", "learned"),)


def fixed(method: str, bits: str, learned: bool = False, **options: object) -> Entry:
    """A method at uniform bits; first and last layer at 8/8 unless `options` say otherwise."""
    label = "learned rounding" if learned else ""
    return Entry(method, parse_bits(bits), None, (*(LEARNED if learned else ()), *options.items()), label)


def budgeted(method: str, limit: str, learned: bool = False, isa: str = "auto") -> Entry:
    """A method that chooses bits itself."""
    return Entry(method, None, parse_limit(limit), LEARNED if learned else (), "learned rounding" if learned else "", isa=isa)


QUICK: tuple[Entry, ...] = (Entry(FLOAT_METHOD), fixed("ptq", "8/8"), fixed("ptq", "4/8"), budgeted("ompq", "bits=4"))

_UNIFORM = (
    fixed("ptq", "8/8"),
    fixed("ptq", "6/6"),
    fixed("ptq", "4/8"),
    fixed("ptq", "4/8", learned=True),
    fixed("ptq", "4/4"),
    fixed("ptq", "4/4", learned=True),
    fixed("ptq", "3/8"),
    fixed("ptq", "3/8", learned=True),
    fixed("zeroq", "8/8"),
    fixed("zeroq", "4/8"),
    fixed("zeroq", "4/4"),
)
# 1.58 % of the float network's BOPs are as many as uniform 4/4 has with first and last layer at 8/8, or a little less.
_BUDGETS = ("bits=4", "bits=3", "bops=3%", "bops=2%", "bops=1.58%")
# On one network latency budgets are compared with BOPs budgets that give the same measured latency.
_LATENCIES = ("latency=85%", "latency=70%", "latency=55%")
_BOPS = ("bops=5%", "bops=4%", "bops=2.5%")


def full(isas: Sequence[str], dense: bool) -> list[Entry]:
    """Every row of a network. `isas`: latency budgets on each. `dense`: more budgets in latency and BOPs."""
    entries = [Entry(FLOAT_METHOD), *_UNIFORM]
    methods = ("zeroq", "ompq")
    entries += [budgeted(method, limit) for limit in _BUDGETS for method in methods]
    if dense:
        entries += [budgeted(method, limit) for limit in _BOPS for method in methods]
    latencies = _LATENCIES if dense else ("latency=70%",)
    return entries + [budgeted(method, limit, isa=isa) for isa in isas for limit in latencies for method in methods]
