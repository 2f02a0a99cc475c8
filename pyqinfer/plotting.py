"""Labels of points in a picture, placed so that none lies on a marker, a line or another label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Distances from the point in pixels that are tried one after the other, each in these directions.
_DISTANCES = (9, 17, 28, 42, 60)
_DIRECTIONS = [(1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)]
_MARKER = 5  # pixels around a point that belong to its marker
_LEADER = 28  # from this distance on a thin line leads from the label to its point
_STEP = 4  # pixels between the places of a line that are looked at

_Box = tuple[float, float, float, float]


def label_points(
    axis: Any, points: Sequence[tuple[float, float, str]], lines: Sequence[Sequence[tuple[float, float]]] = (), size: float = 8
) -> None:
    """Label every point of a matplotlib axis.

    The limits and the scale of the axis must not change afterwards. The figure is drawn once, to know where things lie in pixels.

    Args:
        axis: the axis with everything else on it.
        points: (x, y, text), in data coordinates.
        lines: what is drawn as lines, each as its corners in data coordinates.
        size: of the letters, in points.
    """
    figure = axis.figure
    figure.canvas.draw()
    frame = axis.get_window_extent()
    places = axis.transData.transform([(x, y) for x, y, _ in points])
    obstacles: list[_Box] = [(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in places]
    on_lines = [place for line in lines for place in _along(axis.transData.transform(line))]
    for (x, y, text), (px, py) in zip(points, places, strict=True):
        label = axis.annotate(text, (x, y), xytext=(0, 0), textcoords="offset pixels", fontsize=size, color="#333333")
        extent = label.get_window_extent()
        distance, box = _best(px, py, extent.width, extent.height, obstacles, on_lines, frame)
        label.remove()
        leader = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2} if distance >= _LEADER else None
        axis.annotate(
            text,
            (x, y),
            xytext=(box[0] - px, box[1] - py),
            textcoords="offset pixels",
            fontsize=size,
            color="#333333",
            arrowprops=leader,
            annotation_clip=False,
        )
        obstacles.append(box)


def _best(
    x: float, y: float, width: float, height: float, obstacles: Sequence[_Box], on_lines: Sequence[NDArray[np.float64]], frame: Any
) -> tuple[float, _Box]:
    """The distance and the box in pixels of the nearest place that covers nothing, or else the least."""
    best: tuple[float, float, _Box] | None = None
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            left = x + right * distance - width * (1 - right) / 2
            bottom = y + up * distance * 0.8 - height * (1 - up) / 2
            box = (left, bottom, left + width, bottom + height)
            covered = 10 * sum(_overlap(box, other) for other in obstacles)
            covered += sum(box[0] - 1 <= px <= box[2] + 1 and box[1] - 1 <= py <= box[3] + 1 for px, py in on_lines)
            outside = max(0, frame.x0 - box[0]) + max(0, box[2] - frame.x1) + max(0, frame.y0 - box[1]) + max(0, box[3] - frame.y1)
            cost = covered + outside
            if best is None or cost < best[0]:
                best = (cost, distance, box)
        if best is not None and best[0] == 0:
            break
    assert best is not None
    return best[1], best[2]


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _along(corners: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Places along a line of corners in pixels, close to each other."""
    places: list[NDArray[np.float64]] = []
    for start, end in pairwise(corners):
        steps = max(2, int(np.hypot(*(end - start)) / _STEP))
        places += [start + (end - start) * t for t in np.linspace(0, 1, steps)]
    return places
