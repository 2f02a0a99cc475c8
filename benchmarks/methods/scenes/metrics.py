"""How good detections and masks are: average precision and intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods.scenes.data import overlaps

# The IoUs at which COCO's AP is averaged.
THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes ``[n, 4]``, classes ``[n]`` and scores ``[n]``; of true boxes the scores count for nothing."""

    boxes: NDArray[Any]
    labels: NDArray[Any]
    scores: NDArray[Any]


def average_precision(found: Sequence[Detections], truth: Sequence[Detections], threshold: float) -> float:
    """Mean over the classes that occur of the area under the curve of precision, made monotone, over recall.

    A detection is right if its IoU with a true box of its class that no better scored one has taken is ``threshold`` or more; it takes the
    free box of the largest IoU.
    """
    classes = np.unique(np.concatenate([image.labels for image in truth]))
    return float(np.mean([_of_class(found, truth, threshold, label) for label in classes])) if len(classes) else float("nan")


def mean_average_precision(found: Sequence[Detections], truth: Sequence[Detections]) -> float:
    """The mean of `average_precision` over ``THRESHOLDS``, as COCO has it."""
    return float(np.mean([average_precision(found, truth, threshold) for threshold in THRESHOLDS]))


def _of_class(found: Sequence[Detections], truth: Sequence[Detections], threshold: float, label: int) -> float:
    scores: list[float] = []
    right: list[bool] = []
    boxes = 0
    for guess, true in zip(found, truth, strict=True):
        wanted = true.boxes[true.labels == label]
        boxes += len(wanted)
        chosen = guess.labels == label
        order = np.argsort(-guess.scores[chosen], kind="stable")
        table = overlaps(guess.boxes[chosen][order], wanted)
        free = np.ones(len(wanted), bool)
        for row, score in zip(table, guess.scores[chosen][order], strict=True):
            best = int(np.argmax(np.where(free, row, -1.0))) if free.any() else -1
            hit = best >= 0 and row[best] >= threshold
            if hit:
                free[best] = False
            scores.append(float(score))
            right.append(bool(hit))
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.array(right, bool)[order]
    recall = np.cumsum(hits) / boxes
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_later = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * best_later))


def mean_iou(predicted: NDArray[Any], truth: NDArray[Any], classes: int) -> float:
    """Mean over classes 1 to ``classes - 1`` (0 is the ground) of intersection over union, each counted over all pixels of all images.

    A class that neither side has is left out.
    """
    counts = np.bincount(truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel(), minlength=classes * classes)
    table = counts.reshape(classes, classes)
    common = np.diag(table)
    union = table.sum(0) + table.sum(1) - common
    present = union[1:] > 0
    return float(np.mean(common[1:][present] / union[1:][present])) if present.any() else float("nan")
