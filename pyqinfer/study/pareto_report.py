"""The table and the picture of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyqinfer.accounting import BOPS_CONVENTION
from pyqinfer.plotting import label_points
from pyqinfer.report import Cell, Column, Report
from pyqinfer.study.grid import FLOAT_METHOD
from pyqinfer.study.rows import Row

_COLORS = ("#1f8a70", "#d35400", "#5d7a9c", "#8e44ad", "#c0392b", "#7f8c8d")
_MARKERS = "osD^vP"


def study_report(title: str, rows: Sequence[Row], facts: Mapping[str, Any]) -> Report:
    """One line per row; its status where it has no result. ``facts``: conditions of the measurement."""
    isas = list(dict.fromkeys(isa for row in rows for isa in row.latency_ms))
    columns = [
        Column("name", "network", numeric=False),
        Column("weight_bits", "weight bits", ".2f"),
        Column("act_bits", "act. bits", ".2f"),
        Column("top1_percent", "top-1 %", ".2f"),
        Column("torch_top1_percent", "in torch", ".2f"),
        Column("same_class_percent", "same class %", ".3f"),
        Column("margin_steps", "margin", ".2f"),
        Column("exact_same_class_percent", "same class %, exact sums", ".3f"),
        Column("bops", "BOPs (G)", ".3f", scale=1e9),
        Column("file_bytes", "file (kB)", ".0f", scale=1e3),
        *(Column(_latency_key(isa), "ms" if isa == "auto" else f"ms ({isa})", ".3f") for isa in isas),
    ]
    cells = [_cells(row) for row in rows]
    failed = [f"{row.name}: {row.status}" for row in rows if not row.ok]
    notes = [
        "weight bits are averaged over the weights, activation bits over the MACs; margin: of the images that torch and the engine class"
        " differently, the largest difference of torch's two best outputs, in steps of an 8-bit output; exact sums: torch adds integers",
        *failed,
    ]
    return Report(title, columns, cells, {**facts, "bops_convention": BOPS_CONVENTION}, notes)


def _cells(row: Row) -> dict[str, Cell]:
    cells: dict[str, Cell] = {"name": row.name, "method": row.method, "status": row.status}
    if row.accuracy is not None:
        accuracy = row.accuracy
        cells |= {"top1_percent": accuracy.top1, "torch_top1_percent": accuracy.torch_top1, "margin_steps": accuracy.margin_steps}
        cells |= {"same_class_percent": accuracy.agreement, "exact_same_class_percent": accuracy.exact_agreement}
    cells |= {"weight_bits": row.weight_bits, "act_bits": row.act_bits}
    cells |= {"bops": row.bops, "file_bytes": row.bytes}
    return cells | {_latency_key(isa): ms for isa, ms in row.latency_ms.items()}


def _latency_key(isa: str) -> str:
    return "p50_ms" if isa == "auto" else f"p50_{isa}_ms"


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other beats, from the cheapest on: each is more accurate than all before it."""
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


def draw(title: str, rows: Sequence[Row], path: Path) -> None:
    """Write a PNG: accuracy against BOPs, bytes, and latency on each instruction set, with the frontier of each.

    Raises:
        ValueError: no row has an accuracy.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [row for row in rows if row.ok and row.accuracy is not None]
    quantized = [row for row in shown if row.method != FLOAT_METHOD]
    if not quantized:
        raise ValueError("nothing to draw: no quantized network has an accuracy")
    isas = list(dict.fromkeys(isa for row in quantized for isa in row.latency_ms))
    panels: list[tuple[str, Callable[[Row], float | None]]] = [
        ("BOPs (G)", lambda row: None if row.bops is None else row.bops / 1e9),
        ("file (kB)", lambda row: None if row.bytes is None else row.bytes / 1e3),
        *(("latency, ms" if isa == "auto" else f"latency, ms ({isa})", _latency_of(isa)) for isa in isas),
    ]
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    lines = -(-len(panels) // columns)
    figure = plt.figure(figsize=(6.0 * columns, 4.3 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
    for unused in axes[len(panels) :]:
        unused.remove()
    methods = list(dict.fromkeys(row.method for row in quantized))
    float_top1 = next((_top1(row) for row in shown if row.method == FLOAT_METHOD), None)
    for axis, (heading, cost_of) in zip(axes, panels, strict=False):
        _draw_panel(axis, [(row, cost) for row in quantized if (cost := cost_of(row)) is not None], methods)
        if float_top1 is not None:
            axis.axhline(float_top1, color="black", linestyle=":", linewidth=1)
        axis.set_xlabel(heading)
    for axis in axes[::columns][:lines]:
        axis.set_ylabel("top-1 % in the engine")
    if float_top1 is not None:
        axes[0].annotate("fp32", (0.005, float_top1), xycoords=("axes fraction", "data"), ha="left", va="bottom", fontsize=8)
    axes[0].set_ylim(*_range([_top1(row) for row in shown]))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(methods) + 1, frameon=False)
    figure.suptitle(title)
    for axis, (_, cost_of) in zip(axes, panels, strict=False):
        _label(axis, [(row, cost) for row in quantized if (cost := cost_of(row)) is not None], float_top1)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_panel(axis: Any, points: Sequence[tuple[Row, float]], methods: Sequence[str]) -> None:
    for number, method in enumerate(methods):
        mine = [(cost, _top1(row)) for row, cost in points if row.method == method]
        style = {"color": _COLORS[number % len(_COLORS)], "marker": _MARKERS[number % len(_MARKERS)]}
        axis.scatter([x for x, _ in mine], [y for _, y in mine], s=34, label=method, zorder=3, **style)
    best = frontier([(cost, _top1(row)) for row, cost in points])
    axis.plot([points[i][1] for i in best], [_top1(points[i][0]) for i in best], color="#b0b0b0", linewidth=1.2, label="frontier")
    costs = [cost for _, cost in points]
    if costs and max(costs) > 8 * min(costs):
        axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _label(axis: Any, points: Sequence[tuple[Row, float]], float_top1: float | None) -> None:
    """Label every point inside the axis with its bits or its budget; the legend has its method."""
    low, high = axis.get_ylim()
    shown = [(cost, _top1(row), row.name.removeprefix(row.method).strip() or row.name) for row, cost in points if low <= _top1(row) <= high]
    best = frontier([(cost, top1) for cost, top1, _ in shown])
    lines = [[(shown[i][0], shown[i][1]) for i in best]]
    if float_top1 is not None:
        lines.append([(axis.get_xlim()[0], float_top1), (axis.get_xlim()[1], float_top1)])
    # Points of the frontier choose their places first.
    label_points(axis, [shown[i] for i in best] + [point for i, point in enumerate(shown) if i not in best], lines, size=7)


def _latency_of(isa: str) -> Callable[[Row], float | None]:
    return lambda row: row.latency_ms.get(isa)


def _top1(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy.top1


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of the axis: networks that collapsed lie below it, or the others could not be told apart."""
    best = max(values)
    kept = [value for value in values if value > best - 15]
    margin = max(0.1 * (best - min(kept)), 0.3)
    return min(kept) - margin, best + margin
