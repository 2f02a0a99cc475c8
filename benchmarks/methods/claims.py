"""What the results say, as numbers: every sentence of docs/methods.md that compares rows is one of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from pyqinfer.study.evaluate import discordant
from pyqinfer.study.rows import Row


@dataclass(frozen=True)
class Claim:
    """One sentence about results, as a number.

    Args:
        holds: whether the number keeps its bound; None where rows that it needs are missing, or where it has no bound.
        paired: where two rows are compared, how many images only the first classes right and how many only the second.
    """

    network: str
    text: str
    value: float | None
    unit: str
    holds: bool | None
    paired: tuple[int, int] | None = None


def claims(network: str, rows: Sequence[Row], isas: Sequence[str]) -> list[Claim]:
    """All claims about one network's rows."""
    by_name = {row.name: row for row in rows if row.ok and row.accuracy is not None}
    found = list(_differences(network, by_name))
    found += [Claim(network, text, value, unit, holds) for text, value, unit, holds in _agreement(rows)]
    for isa in isas:
        found += [Claim(network, text, value, unit, holds) for text, value, unit, holds in _latency(by_name, rows, isa)]
        found += [Claim(network, text, value, unit, holds) for text, value, unit, holds in _speed(network, by_name, isa)]
    return found


_STEPS = "steps of an 8-bit output"
_Found = Iterator[tuple[str, float | None, str, bool | None]]


# (a, b, least difference of a's top-1 to b's). None stands for that standard error: a may be behind b by no more. 0.2 points are about the
# standard error of 10,920 images at 95 %. Where a budget is compared with uniform bits, both were calibrated on the same data.
_PAIRS = (
    ("ptq 8/8", "fp32", -0.2),
    ("ptq 8/8", "NNCF 8/8 (OpenVINO)", None),
    ("ptq 8/8", "ONNX Runtime 8/8", None),
    ("zeroq 8/8", "ptq 8/8", -0.5),
    ("zeroq bits=4", "zeroq 4/8", 0.0),
    ("ompq bits=4", "ptq 4/8", 0.0),
    ("zeroq bits=3", "ptq 3/8", 0.0),
    ("ompq bits=3", "ptq 3/8", 0.0),
    ("zeroq bops=1.58%", "zeroq 4/4", 0.0),
    ("ompq bops=1.58%", "ptq 4/4", 0.0),
    ("ptq 4/8 learned rounding", "ptq 4/8", 0.0),
    ("ptq 4/4 learned rounding", "ptq 4/4", 0.0),
    ("ptq 3/8 learned rounding", "ptq 3/8", 0.0),
    ("saq 4/4", "fp32", -0.2),
    ("saq 4/4", "qat 4/4", None),
    ("saq 3/3", "qat 3/3", None),
    ("saq bops=1.58%", "saq 4/4", None),
    ("saq bops=0.9%", "saq 3/3", None),
    ("qat 4/4", "ptq 4/4", 0.0),
    ("qat 3/3", "ptq 3/3", 0.0),
    ("qat 2/2", "ptq 2/2", 0.0),
    ("qat 2/2", "fp32", -2.0),
    ("ternary t/32 88% zeros", "fp32", -4.0),
    ("ternary t/4 88% zeros", "fp32", -4.0),
    ("qat 8/8 30% of weights pruned", "fp32", None),
    ("qat 8/8 30% of channels pruned", "fp32", None),
)


def _differences(network: str, rows: dict[str, Row]) -> Iterator[Claim]:
    for first, second, least in _PAIRS:
        if first in rows and second in rows:
            value = _top1(rows[first]) - _top1(rows[second])
            bound = -standard_error(rows[second]) if least is None else least
            yield Claim(
                network, f"top-1 of {first} less that of {second}", value, "points", value >= bound, _paired(rows[first], rows[second])
            )


def _paired(a: Row, b: Row) -> tuple[int, int] | None:
    assert a.accuracy is not None
    assert b.accuracy is not None
    return discordant(a.accuracy, b.accuracy)


def _agreement(rows: Sequence[Row]) -> _Found:
    seen = [row for row in rows if row.ok and row.accuracy is not None and row.accuracy.torch_images]
    if not seen:
        return
    accuracies = [row.accuracy for row in seen if row.accuracy is not None]
    least = min(accuracy.agreement or 0.0 for accuracy in accuracies)
    yield "images that torch and the engine class alike, least of all rows", least, "%", least >= 99.9
    margin = max(accuracy.margin_steps for accuracy in accuracies)
    yield "largest margin between the two classes where they differ", margin, _STEPS, margin <= 2
    exact = [accuracy for accuracy in accuracies if accuracy.exact_different is not None]
    if exact:
        most = max(accuracy.torch_images for accuracy in exact)
        least = min(accuracy.exact_agreement or 0.0 for accuracy in exact)
        yield f"the same with exact sums in torch, on up to {most:,} images: alike, least of all rows", least, "%", least >= 99.9
        margin = max(accuracy.exact_margin_steps or 0.0 for accuracy in exact)
        yield "the same with exact sums in torch: largest margin", margin, _STEPS, margin <= 2


def _latency(by_name: dict[str, Row], rows: Sequence[Row], isa: str) -> _Found:
    """How well latency budgets are met, and whether a BOPs budget that takes as long is more accurate."""
    for row in rows:
        if not (row.ok and "latency_ms" in row.budget and isa in row.latency_ms and _is_for(row, isa)):
            continue
        over = 100 * (row.latency_ms[isa] / row.budget["latency_ms"] - 1)
        yield f"{row.name}: measured latency above the budget ({isa})", over, "%", over <= 8
        rivals = [
            other
            for other in by_name.values()
            if other.method == row.method and "bops" in other.budget and other.latency_ms.get(isa, 1e9) <= 1.02 * row.latency_ms[isa]
        ]
        if rivals:
            best = max(rivals, key=_top1)
            gain = _top1(row) - _top1(best)
            text = f"top-1 of {row.name} less that of {best.name}, the best BOPs budget at most as slow ({isa})"
            yield text, gain, "points", gain >= -standard_error(best)
        else:
            yield f"{row.name}: BOPs budgets at most as slow ({isa})", 0.0, "rows", True


# (a, b, largest share that a's time may be of b's, the same on the wide network, whose layers are large enough for fewer bits to show).
_TIMES = (
    ("qat 4/4", "ptq 8/8", 1.02, 1.0),
    ("saq 4/4", "ptq 8/8", 1.02, 1.0),
    ("ternary t/4 88% zeros", "ptq 8/8", 1.02, 1.0),
    ("qat 8/8 30% of channels pruned", "ptq 8/8", 1 / 1.25, 1 / 1.25),
)


def _speed(network: str, rows: dict[str, Row], isa: str) -> _Found:
    """Whether trained networks take the time that their bits and channels let hope for."""
    for first, second, narrow, wide in _TIMES:
        times = [rows[name].latency_ms.get(isa) if name in rows else None for name in (first, second)]
        if times[0] and times[1]:
            share = times[0] / times[1]
            yield f"time of {first} over that of {second} ({isa})", share, "times", share <= (wide if "wide" in network else narrow)


def _is_for(row: Row, isa: str) -> bool:
    on = row.name.partition(" on ")[2].split(" ")[0]
    return on == isa or (not on and isa == "auto")


def _top1(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy.top1


def standard_error(row: Row) -> float:
    """Standard error of a row's accuracy, in points."""
    assert row.accuracy is not None
    share = row.accuracy.top1 / 100
    return 100 * sqrt(share * (1 - share) / row.accuracy.images)
