"""Top-1 accuracy of a quantized network in the engine and in torch, and how far the two agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyqinfer.session import Session
from pyqinfer.study.labelled import Labelled

OnProgress = Callable[[int, int], None]

_BATCH = 32  # a layer of a small network then fits a core's cache, and torch needs a third less time
_STEPS = 255  # of an 8-bit quantizer


@dataclass(frozen=True)
class Accuracy:
    """
    Args:
        images: how many the engine has seen. top1: in the engine, percent.
        torch_images: how many of them torch has seen as well, 0 if none. torch_top1: percent.
        different: images to which the two give different classes.
        margin_steps: of those images, the largest difference between torch's two best outputs, in steps that an 8-bit quantizer of
            the network's output would have (its range over all images / 255); 0 if there are none.
    """

    images: int
    top1: float
    torch_images: int = 0
    torch_top1: float | None = None
    different: int = 0
    margin_steps: float = 0.0

    @property
    def agreement(self) -> float | None:
        """Share of the images to which both give the same class, percent; None where torch has seen none."""
        return 100 * (1 - self.different / self.torch_images) if self.torch_images else None


def evaluate(
    session: Session,
    graph: Any,
    data: Labelled,
    torch_images: int | None = None,
    on_progress: OnProgress | None = None,
) -> Accuracy:
    """Run a network on labelled images.

    Args:
        session: the engine's side, with one input and one output ``[N, classes]``.
        graph: the torch module that `session`'s model was converted from.
        data: the images.
        torch_images: how many of them torch shall see, from the first; default all.
        on_progress: called with (images done, images in all).

    Raises:
        ValueError: an output of another shape.
    """
    limit = len(data) if torch_images is None else min(torch_images, len(data))
    labels: list[NDArray[np.int64]] = []
    engine: list[NDArray[np.int64]] = []
    reference: list[NDArray[np.float32]] = []
    done = 0
    for images, truth in data.batches(_BATCH):
        logits = np.asarray(session(images))
        if logits.ndim != 2 or len(logits) != len(images):
            raise ValueError(f"accuracy needs one output [N, classes], got shape {logits.shape} for {len(images)} images")
        labels.append(truth)
        engine.append(logits.argmax(1))
        if done < limit:
            with torch.inference_mode():
                reference.append(graph(torch.from_numpy(images[: limit - done])).numpy())
        done += len(images)
        if on_progress is not None:
            on_progress(done, len(data))
    truth, predicted = np.concatenate(labels), np.concatenate(engine)
    top1 = 100 * float(np.mean(predicted == truth))
    if not reference:
        return Accuracy(len(truth), top1)
    expected = np.concatenate(reference)
    count = len(expected)
    torch_top1 = 100 * float(np.mean(expected.argmax(1) == truth[:count]))
    differs = expected.argmax(1) != predicted[:count]
    return Accuracy(len(truth), top1, count, torch_top1, int(differs.sum()), _margin_steps(expected, differs))


def _margin_steps(logits: NDArray[np.float32], chosen: NDArray[np.bool_]) -> float:
    """The largest difference between the two best outputs of the chosen rows."""
    if not chosen.any():
        return 0.0
    best = np.sort(logits[chosen], axis=1)
    step = float(logits.max() - logits.min()) / _STEPS
    return float((best[:, -1] - best[:, -2]).max()) / step
