"""Top-1 accuracy of a quantized network in the engine and in torch, and how far the two agree."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule

from pyqinfer.quantization.exact_sums import ExactSums
from pyqinfer.session import Session
from pyqinfer.study.labelled import Labelled

OnProgress = Callable[[int, int], None]

_BATCH = 32  # a layer of a small network then fits a core's cache, and torch needs a third less time


@dataclass(frozen=True)
class Accuracy:
    """What a network scores on labelled images, in the engine and in torch.

    Args:
        images: how many the engine has seen. top1: in the engine, percent.
        torch_images: how many of them torch has seen as well, 0 if none. torch_top1: percent.
        different: images to which the two give different classes.
        margin_steps: the largest difference between torch's two best outputs over those images, in :func:`output_step`; 0 if there
            are none.
        exact_different, exact_margin_steps: like ``different`` and ``margin_steps``, against the graph in torch with exact sums
            (:class:`~pyqinfer.quantization.exact_sums.ExactSums`), on the same images; None for a network in float.
        hits: which images the engine classes right, see :func:`pack_hits`; "" where nobody kept it.
    """

    images: int
    top1: float
    torch_images: int = 0
    torch_top1: float | None = None
    different: int = 0
    margin_steps: float = 0.0
    exact_different: int | None = None
    exact_margin_steps: float | None = None
    hits: str = ""

    @property
    def agreement(self) -> float | None:
        """Share of the images to which both give the same class, percent; None where torch has seen none."""
        return 100 * (1 - self.different / self.torch_images) if self.torch_images else None

    @property
    def exact_agreement(self) -> float | None:
        """Share of the images to which the engine and torch with exact sums give the same class, percent; None for a network in float."""
        return 100 * (1 - self.exact_different / self.torch_images) if self.exact_different is not None else None


def pack_hits(right: NDArray[np.bool_]) -> str:
    """One bit per image, in base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode("ascii")


def discordant(a: Accuracy, b: Accuracy) -> tuple[int, int] | None:
    """How many images only ``a`` classes right, and only ``b``; None where they are not of the same images or nobody kept it."""
    if not (a.hits and b.hits) or a.images != b.images:
        return None
    first, second = (np.unpackbits(np.frombuffer(base64.b64decode(x.hits), np.uint8)).astype(bool) for x in (a, b))
    return int((first & ~second).sum()), int((second & ~first).sum())


def output_step(logits: NDArray[np.float32]) -> float:
    """The step that an 8-bit quantizer of a network's output would have, were there one: the range over all images / 255."""
    return float(logits.max() - logits.min()) / 255


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
        graph: the torch module that `session`'s model was converted from. A graph with quantizers runs twice: as it is, and with exact
            sums.
        data: the images.
        torch_images: how many of them torch shall see, from the first; default all.
        on_progress: called with (images done, images in all).

    Raises:
        ValueError: an output of another shape.
    """
    limit = len(data) if torch_images is None else min(torch_images, len(data))
    runs: list[Callable[..., Any]] = [graph, ExactSums(graph)] if isinstance(graph, GraphModule) else [graph]
    labels: list[NDArray[np.int64]] = []
    engine: list[NDArray[np.int64]] = []
    references: list[list[NDArray[np.float32]]] = [[] for _ in runs]
    done = 0
    for images, truth in data.batches(_BATCH):
        logits = np.asarray(session(images))
        if logits.ndim != 2 or len(logits) != len(images):
            raise ValueError(f"accuracy needs one output [N, classes], got shape {logits.shape} for {len(images)} images")
        labels.append(truth)
        engine.append(logits.argmax(1))
        if done < limit:
            part = torch.from_numpy(images[: limit - done])
            with torch.inference_mode():
                for run, found in zip(runs, references, strict=True):
                    found.append(run(part).numpy())
        done += len(images)
        if on_progress is not None:
            on_progress(done, len(data))
    truth, predicted = np.concatenate(labels), np.concatenate(engine)
    right = predicted == truth
    result = Accuracy(len(truth), 100 * float(right.mean()), hits=pack_hits(right))
    if limit == 0:
        return result
    expected, *exact = (np.concatenate(found) for found in references)
    count = len(expected)
    different, margin = _disagreement(expected, predicted[:count])
    top1 = 100 * float(np.mean(expected.argmax(1) == truth[:count]))
    result = replace(result, torch_images=count, torch_top1=top1, different=different, margin_steps=margin)
    for logits in exact:
        different, margin = _disagreement(logits, predicted[:count])
        result = replace(result, exact_different=different, exact_margin_steps=margin)
    return result


def _disagreement(logits: NDArray[np.float32], predicted: NDArray[np.int64]) -> tuple[int, float]:
    """Rows with another class than the engine's, and the largest difference of their two best outputs in output steps."""
    differs = logits.argmax(1) != predicted
    if not differs.any():
        return 0, 0.0
    best = np.sort(logits[differs], axis=1)
    return int(differs.sum()), float((best[:, -1] - best[:, -2]).max()) / output_step(logits)
