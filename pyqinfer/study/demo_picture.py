"""The demo's picture: what the network sees and says, and what the bits buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pyqinfer.report import Report
from pyqinfer.study.demo import DemoResult
from pyqinfer.zoo.glyphs import LETTERS

_COLUMNS, _ROWS = 12, 5
_WRONG = "#c0392b"
_COLORS = {"torch fp32": "#95a5a6", "engine fp32": "#5d7a9c", "engine int8": "#1f8a70"}


def draw(result: DemoResult, path: Path) -> None:
    """Write a PNG: test images with the int8 engine's answers (mistakes in red), and bars of latency, BOPs and file size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(13, 7.2), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[1.55, 1])).ravel()
    _draw_glyphs(upper, result)
    _draw_bars(lower, result.report)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_glyphs(figure: Any, result: DemoResult) -> None:
    figure.suptitle(f"Letters of unseen fonts, and what the int8 engine reads ({_accuracy(result):.1f} % right; mistakes in red)")
    for axis, i in zip(figure.subplots(_ROWS, _COLUMNS).flat, range(len(result.labels)), strict=False):
        right = result.predictions[i] == result.labels[i]
        axis.imshow(result.images[i, 0], cmap="gray", vmin=-1, vmax=1)
        title = LETTERS[result.predictions[i]] if right else f"{LETTERS[result.predictions[i]]} (is {LETTERS[result.labels[i]]})"
        axis.set_title(title, fontsize=9, pad=2, color="black" if right else _WRONG)
        axis.axis("off")


def _accuracy(result: DemoResult) -> float:
    return 100 * float(np.mean(result.predictions == result.labels))


def _draw_bars(figure: Any, report: Report) -> None:
    panels = [
        ("p50_ms", 1.0, "Latency, ms per image (p50)", "{:.2f}"),
        ("bops", 1e9, "BOPs, G", "{:.2f}"),
        ("file_bytes", 1e3, "File, kB", "{:.0f}"),
    ]
    for axis, (key, scale, title, text) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        rows = [row for row in report.rows if row[key] is not None]
        names = [str(row["name"]) for row in rows]
        values = [float(row[key] or 0) / scale for row in rows]
        bars = axis.barh(names, values, color=[_COLORS[name] for name in names])
        axis.bar_label(bars, labels=[text.format(value) for value in values], padding=4)
        axis.set_title(title, fontsize=11)
        axis.invert_yaxis()
        axis.set_xlim(0, max(values) * 1.18)
        axis.spines[["top", "right"]].set_visible(False)
