"""A grid of methods and bits on one network: accuracy in the engine and in torch, BOPs, bytes and measured latency of every row."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyqinfer._core import __version__, cpu_info
from pyqinfer.bits import parse_bits
from pyqinfer.conversion import convert
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.model import load
from pyqinfer.quantization import quantize
from pyqinfer.session import Session
from pyqinfer.study.evaluate import evaluate
from pyqinfer.study.grid import FLOAT_METHOD, Entry
from pyqinfer.study.labelled import Labelled
from pyqinfer.study.rows import Row, model_costs, read_row, write_row

OnProgress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(frozen=True)
class Study:
    """One network with its data, and a folder for what has been measured.

    Args:
        model: float module with one input and one output ``[N, classes]``. It is not changed.
        examples: tuple with one input of batch 1: the shape whose latency counts.
        calibration: batches of typical inputs, for methods that need data.
        data: labelled images.
        folder: ``<row>.json`` and ``<row>.pqi`` of every row; rows that are there are not made again while network, data and settings
            stay the same.
        threads: for accuracy and latency.
        torch_images: how many images torch runs as well, default all.
        on_progress: called with what is being done and how far it is.
    """

    model: nn.Module
    examples: tuple[Tensor, ...]
    calibration: Sequence[Tensor]
    data: Labelled
    folder: Path
    threads: int = 1
    torch_images: int | None = None
    on_progress: OnProgress = field(default=lambda what, done, total: None)

    def row(self, entry: Entry) -> Row:
        """The entry's row without latency: from the folder, or quantized, converted and run now.

        What a method cannot do is said in the row's status; other errors pass through.
        """
        key = self._key(entry)
        path = self.folder / f"{entry.slug}.json"
        row = read_row(path, key)
        if row is not None and self.file(entry).is_file():
            return row
        start = time.monotonic()
        try:
            graph, budget = self._quantize(entry)
        except ValueError as error:
            return Row(entry.name, entry.method, status=str(error))
        model = convert(graph, example_inputs=self.examples)
        self.folder.mkdir(parents=True, exist_ok=True)
        model.save(self.file(entry))
        seconds = time.monotonic() - start
        session = Session(model, threads=self.threads)
        accuracy = evaluate(session, graph, self.data, self.torch_images, lambda done, total: self.on_progress(entry.name, done, total))
        shapes = {name: tuple(x.shape) for name, x in zip(model.inputs, self.examples, strict=True)}
        row = Row(entry.name, entry.method, accuracy=accuracy, budget=budget, seconds=seconds, **model_costs(model, shapes))
        write_row(path, key, row)
        return row

    def file(self, entry: Entry) -> Path:
        """Where the entry's converted network lies."""
        return self.folder / f"{entry.slug}.pqi"

    def latency(self, entries: Sequence[Entry], isa: str = "auto", others: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Median ms of one run of each entry that has a file, interleaved; `others` are timed among them: name -> callable.

        Not kept: times are comparable only within one measurement.
        """
        models = {entry.name: load(self.file(entry)) for entry in entries if self.file(entry).is_file()}
        candidates = {**models, **(others or {})}

        def report(done: int, total: int) -> None:
            self.on_progress(f"latency ({isa})", done, total)

        timing = benchmark(candidates, self.examples, threads=self.threads, min_time=1.5, isa=isa, on_progress=report)
        return {str(row["name"]): float(row["p50_ms"] or 0.0) for row in timing.rows}

    def _quantize(self, entry: Entry) -> tuple[Any, dict[str, float]]:
        """The graph to convert, and the budget in its units."""
        if entry.method == FLOAT_METHOD:
            return self.model, {}
        budget = None
        if entry.limit is not None:
            budget = entry.limit.budget(self._int8_ms(entry.isa) if entry.limit.relative else None)
        self.on_progress(entry.name, 0, len(self.data))
        with _isa(entry.isa):
            graph = quantize(
                self.model, entry.configuration(), example_inputs=self.examples, calibration=list(self.calibration), budget=budget
            )
        return graph, {} if budget is None else budget.limits

    def _int8_ms(self, isa: str) -> float:
        """Latency of the 8/8 network that plain PTQ makes."""
        entry = INT8
        if not self.file(entry).is_file():
            self.row(entry)
        return self.latency([entry], isa)[entry.name]

    def _key(self, entry: Entry) -> str:
        content = hashlib.sha256(repr((__version__, entry, self.torch_images, self.threads)).encode())
        for name, tensor in self.model.state_dict().items():
            content.update(name.encode())
            content.update(tensor.detach().contiguous().numpy().tobytes())
        for tensor in (*self.examples, *self.calibration):
            content.update(repr(tuple(tensor.shape)).encode())
            content.update(tensor.detach().contiguous().numpy().tobytes())
        images, labels = next(self.data.batches(64))
        content.update(repr((len(self.data), images.shape)).encode() + images.tobytes() + np.ascontiguousarray(labels).tobytes())
        return content.hexdigest()[:24]


INT8 = Entry("ptq", bits=parse_bits("8/8"))


def run_grid(study: Study, entries: Sequence[Entry], isas: Sequence[str] = ("auto",)) -> list[Row]:
    """Every entry's row, with its latency on each instruction set, in the order given."""
    rows = [study.row(entry) for entry in entries]
    times: dict[str, dict[str, float]] = {}
    for isa in isas:
        for name, ms in study.latency(entries, isa).items():
            times.setdefault(name, {})[isa] = ms
    return [row.timed(times.get(row.name, {})) if row.ok else row for row in rows]


def conditions(study: Study) -> dict[str, Any]:
    """What a figure needs beside it."""
    info = cpu_info()
    return {
        "cpu": info["brand"],
        "isa": info["best"],
        "threads": study.threads,
        "images": len(study.data),
        "calibration_images": sum(len(batch) for batch in study.calibration),
        "input": [list(x.shape) for x in study.examples],
        "versions": {"pyqinfer": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
        "compiler": info["compiler"],
    }


@contextmanager
def _isa(isa: str) -> Iterator[None]:
    """Sessions that choose their instruction set take this one: what a method measures is what will run."""
    if isa == "auto":
        yield
        return
    before = os.environ.get("PYQINFER_ISA")
    os.environ["PYQINFER_ISA"] = isa
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYQINFER_ISA"]
        else:
            os.environ["PYQINFER_ISA"] = before
