"""Rows of the scenes: each task's float network and what methods make of it, scored in the engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pyqinfer as pq
from benchmarks.methods.scenes.data import Scenes
from benchmarks.methods.scenes.networks import Run, Task
from pyqinfer.measure.build import engine_build
from pyqinfer.study.rows import model_costs, read_times, write_json, write_times

_CALIBRATION = 256
_CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Entry:
    """One row.

    Args:
        name: printed. make: the method for a number of epochs and a loss; None: the float network.
        trains: whether it is given training batches. epochs: factor to the epochs of the command.
        heads: bits of the layers that write outputs; None: as all others.
    """

    name: str
    make: Callable[[int, Any], Any] | None = None
    trains: bool = False
    epochs: int = 1
    heads: str | None = None

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in self.name)


ENTRIES = (
    Entry("fp32"),
    Entry("ptq 8/8", lambda epochs, loss: pq.PTQ(8, 8)),
    Entry("zeroq 8/8", lambda epochs, loss: pq.ZeroQ(8, 8)),
    Entry("qat 4/4", lambda epochs, loss: pq.QAT(4, 4, epochs=epochs, loss=loss), trains=True),
    Entry("ternary t/32 88% zeros", lambda epochs, loss: pq.PrunedTernary(sparsity=0.88, epochs=epochs, loss=loss), trains=True, epochs=3),
    Entry(
        "ternary t/32 88% zeros and ends 8/32",
        lambda epochs, loss: pq.PrunedTernary(sparsity=0.88, first_last="8/32", epochs=epochs, loss=loss),
        trains=True,
        epochs=3,
        heads="8/32",
    ),
)


@dataclass(frozen=True)
class SceneRow:
    """One result. ``scores`` in percent; ``epochs`` and ``seed`` of rows that were trained."""

    name: str
    scores: dict[str, float]
    bops: int
    bytes: int
    weight_bits: float
    act_bits: float
    epochs: int | None = None
    seed: int | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneStudy:
    """A task with its data and a folder for its rows.

    Args:
        model: the trained float network. train, test: scenes. epochs: of trained rows.
        folder: what is there is not made again while network, scenes, settings and the engine's build stay the same.
    """

    task: Task
    model: nn.Module
    train: Scenes
    test: Scenes
    epochs: int
    folder: Path
    threads: int = 1

    @property
    def example(self) -> tuple[Tensor]:
        """One scene."""
        return (torch.from_numpy(self.train.images[:1]),)

    def row(self, entry: Entry) -> SceneRow:
        """The entry's row: from the folder, or made now."""
        known = self.known(entry)
        if known is not None:
            return known
        graph = self.model if entry.make is None else self._quantize(entry)
        model = pq.convert(graph, example_inputs=self.example)
        self.folder.mkdir(parents=True, exist_ok=True)
        model.save(self.file(entry))
        shapes = {name: tuple(x.shape) for name, x in zip(model.inputs, self.example, strict=True)}
        costs = model_costs(model, shapes)
        costs.pop("bits")
        epochs, seed = (self.epochs * entry.epochs, 0) if entry.trains else (None, None)
        scores = self.task.scores(engine_run(model, self.threads), self.test)
        row = SceneRow(entry.name, scores, **costs, epochs=epochs, seed=seed)
        write_json(self._result(entry), {"key": self._key(entry), "row": asdict(row)})
        return row

    def known(self, entry: Entry) -> SceneRow | None:
        """The entry's row, if it is in the folder."""
        content = read_json(self._result(entry))
        if not self.file(entry).is_file() or content.get("key") != self._key(entry):
            return None
        return SceneRow(**content["row"])

    def latency(self, entries: Sequence[Entry]) -> dict[str, float]:
        """Median ms of one run of each entry that has a file, all timed in turns."""
        files = {entry.name: self.file(entry) for entry in entries if self.file(entry).is_file()}
        content = hashlib.sha256(repr((engine_build(), self.threads)).encode())
        for name, path in files.items():
            content.update(name.encode() + path.read_bytes())
        kept, key = self.folder / "latency.times", content.hexdigest()[:24]
        times = read_times(kept, key)
        if times is None:
            timing = pq.benchmark({name: pq.load(path) for name, path in files.items()}, self.example, threads=self.threads, min_time=1.0)
            times = {str(row["name"]): float(row["p50_ms"] or 0.0) for row in timing.rows}
            write_times(kept, key, times)
        return times

    def file(self, entry: Entry) -> Path:
        """Where the entry's converted network lies."""
        return self.folder / f"{entry.slug}.pqi"

    def _quantize(self, entry: Entry) -> Any:
        assert entry.make is not None
        method = entry.make(self.epochs * entry.epochs, self.task.loss)
        calibration = list(torch.from_numpy(self.train.images[:_CALIBRATION]).split(_CALIBRATION_BATCH))
        given = calibration if entry.trains or "calibration" in method.needs else None
        train = self.task.loader(self.train) if entry.trains else None
        keep = dict.fromkeys(self.task.heads, entry.heads) if entry.heads and self.task.heads else None
        return pq.quantize(self.model, method, example_inputs=self.example, calibration=given, train=train, keep=keep).cpu()

    def _result(self, entry: Entry) -> Path:
        return self.folder / f"{entry.slug}.json"

    def _key(self, entry: Entry) -> str:
        method = None if entry.make is None else repr(entry.make(self.epochs, None))
        content = hashlib.sha256(repr((engine_build(), entry.name, method, len(self.train), len(self.test))).encode())
        for array in (self.train.images[:8], self.test.images):
            content.update(np.ascontiguousarray(array).tobytes())
        for tensor in self.model.state_dict().values():
            content.update(tensor.detach().contiguous().numpy().tobytes())
        return content.hexdigest()[:24]


def engine_run(model: Any, threads: int) -> Run:
    """A converted network as what `Task.scores` runs."""
    session = pq.Session(model, threads=threads)
    return lambda images: session(images)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an absent or damaged file counts as an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
