"""Labels of points in pictures."""

from __future__ import annotations

import pytest

from pyqinfer.plotting import label_points

figures = pytest.importorskip("matplotlib.figure")

# Points in a clump, as networks of equal size and nearly equal accuracy are, and a line through them.
POINTS = [(1.0, 1.0, "8/8"), (1.0, 1.02, "6/8"), (1.01, 1.0, "latency=70%"), (2.0, 1.5, "4/4"), (0.0, 0.0, "t/4")]


def test_every_point_is_labelled_and_no_label_lies_on_another_or_outside() -> None:
    figure = figures.Figure(figsize=(6, 4))
    axis = figure.subplots()
    axis.set_xlim(-0.2, 2.2)
    axis.set_ylim(-0.2, 1.7)
    label_points(axis, POINTS, [[(0.0, 0.0), (2.0, 1.5)]])
    figure.canvas.draw()
    assert [text.get_text() for text in axis.texts] == [text for _, _, text in POINTS]
    frame = axis.get_window_extent()
    boxes = [text.get_window_extent().shrunk(0.98, 0.98) for text in axis.texts]
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[:i])
    markers = axis.transData.transform([(x, y) for x, y, _ in POINTS])
    assert not any(box.contains(x, y) for box in boxes for x, y in markers)
