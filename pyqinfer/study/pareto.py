"""A grid of methods and bits on one network: accuracy in the engine and in torch, BOPs, bytes and measured latency of every row."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyqinfer._core import __version__, cpu_info
from pyqinfer.bits import LayerBits
from pyqinfer.budget import Budget
from pyqinfer.conversion import convert
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.measure.build import engine_build
from pyqinfer.model import load
from pyqinfer.quantization import quantize
from pyqinfer.session import Session
from pyqinfer.study.evaluate import evaluate
from pyqinfer.study.grid import FLOAT_METHOD, Entry
from pyqinfer.study.labelled import Labelled
from pyqinfer.study.rows import Row, model_costs, read_row, read_times, write_row, write_times

OnProgress = Callable[[str, int, int], None]  # is called with what is being done, steps done, steps in all

# The network whose latency relative budgets refer to.
INT8 = Entry("ptq", LayerBits(8, 8))
_RUNS = 5


@dataclass(frozen=True)
class Study:
    """One network with its data, and a folder for what has been measured.

    Args:
        model: float module with one input and one output ``[N, classes]``. It is not changed.
        examples: tuple with one input: the shape whose latency counts.
        calibration: batches of typical inputs, for methods that need data.
        data: labelled images.
        folder: files of every row; what is there is not made again while network, data, settings and the engine's build stay the same.
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
        known = self.known(entry)
        if known is not None:
            return known
        start = time.monotonic()
        self.on_progress(entry.name, 0, len(self.data))
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
        write_row(self._result(entry), self._key(entry), row)
        return row

    def known(self, entry: Entry) -> Row | None:
        """The entry's row, if it is in the folder and torch has seen enough images."""
        row = read_row(self._result(entry), self._key(entry)) if self.file(entry).is_file() else None
        wanted = len(self.data) if self.torch_images is None else min(self.torch_images, len(self.data))
        return row if row is not None and row.accuracy is not None and row.accuracy.torch_images >= wanted else None

    def file(self, entry: Entry) -> Path:
        """Where the entry's converted network lies."""
        return self.folder / f"{entry.slug}.pqi"

    def latency(
        self, entries: Sequence[Entry], isa: str = "auto", others: Mapping[str, Callable[..., Any]] | None = None
    ) -> dict[str, float]:
        """Median ms of one run of each entry that has a file, `others` (name -> callable) among them.

        All are timed in turns in one measurement, because times of two measurements do not compare: one more row, and all are timed again.
        """
        files = {entry.name: self.file(entry) for entry in entries if self.file(entry).is_file()}
        content = hashlib.sha256(repr((engine_build(), self.threads, sorted(others or ()))).encode())
        for name, path in files.items():
            content.update(name.encode() + path.read_bytes())
        key = content.hexdigest()[:24]
        kept = self.folder / f"latency-{isa}-{len(files)}.times"
        times = read_times(kept, key)
        if times is None:
            candidates = {**{name: load(path) for name, path in files.items()}, **(others or {})}
            times = self._time(candidates, isa)
            write_times(kept, key, times)
        return times

    def int8_ms(self, isa: str = "auto") -> float:
        """Latency of the 8/8 network that plain PTQ makes: what a relative latency budget refers to."""
        self.row(INT8)
        return self.latency([INT8], isa)[INT8.name]

    def _time(self, candidates: Mapping[str, Any], isa: str) -> dict[str, float]:
        def report(done: int, total: int) -> None:
            self.on_progress(f"latency ({isa})", done, total)

        timing = benchmark(candidates, self.examples, threads=self.threads, rounds=_RUNS, min_time=1.5, isa=isa, on_progress=report)
        return {str(row["name"]): float(row["p50_ms"] or 0.0) for row in timing.rows}

    def _quantize(self, entry: Entry) -> tuple[Any, dict[str, float]]:
        """The graph to convert, and the budget in its units."""
        if entry.method == FLOAT_METHOD:
            return self.model, {}
        budget = self.budget(entry)
        graph = quantize(self.model, entry.configuration(), example_inputs=self.examples, calibration=self.inputs(entry), budget=budget)
        return graph, {} if budget is None else budget.limits

    def budget(self, entry: Entry) -> Budget | None:
        """The entry's limit; one that is relative to the latency of the 8/8 network has that measured."""
        if entry.limit is None:
            return None
        return entry.limit.budget(self.int8_ms(entry.isa) if entry.limit.relative else None, self.threads, entry.isa)

    def inputs(self, entry: Entry) -> list[Tensor]:
        """The images that the entry's method is given: those of calibration, or the ones that it distills, which are kept as well.

        A method that makes its own data has ``distill(model, examples)``, and settings ``distillation`` that the images depend on.
        """
        if entry.needs_data:
            return list(self.calibration)
        method = entry.configuration()
        content = hashlib.sha256(repr((__version__, method.distillation, [tuple(x.shape) for x in self.examples])).encode())
        for tensor in self.model.state_dict().values():
            content.update(tensor.detach().contiguous().numpy().tobytes())
        path = self.folder / f"distilled-{content.hexdigest()[:12]}.npz"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            method.distill(self.model, self.examples).save(path)
        with np.load(path, allow_pickle=False) as arrays:
            return [torch.from_numpy(arrays["input_0"])]

    def _result(self, entry: Entry) -> Path:
        return self.folder / f"{entry.slug}.json"

    def _key(self, entry: Entry) -> str:
        return hashlib.sha256(repr((self._origin, entry)).encode()).hexdigest()[:24]

    @cached_property
    def _origin(self) -> str:
        """Hash of everything but the entry that a row is made from."""
        images, labels = next(self.data.batches(64))
        content = hashlib.sha256(repr((engine_build(), len(self.data), images.shape)).encode())
        content.update(images.tobytes() + np.ascontiguousarray(labels).tobytes())
        for tensor in (*self.model.state_dict().values(), *self.examples, *self.calibration):
            content.update(repr(tuple(tensor.shape)).encode() + tensor.detach().contiguous().numpy().tobytes())
        return content.hexdigest()


def run_grid(
    study: Study,
    entries: Sequence[Entry],
    isas: Sequence[str] = ("auto",),
    seconds: float | None = None,
    on_row: Callable[[Row, float, int], None] = lambda row, seconds, left: None,
) -> list[Row]:
    """Every entry's row, with its latency on each instruction set, in the order given.

    Args:
        seconds: once these are over no further row is begun; rows that are left out say so in their status. None: no bound.
        on_row: called after each row with the row, the seconds that it took and how many are left.
    """
    end = None if seconds is None else time.monotonic() + seconds
    rows = []
    for number, entry in enumerate(entries, 1):
        start = time.monotonic()
        if end is not None and start > end and study.known(entry) is None:
            rows.append(Row(entry.name, entry.method, status=f"left out: the {seconds:.0f} s were over"))
            continue
        rows.append(study.row(entry))
        on_row(rows[-1], time.monotonic() - start, len(entries) - number)
    return with_latency(rows, {isa: study.latency(entries, isa) for isa in isas})


def with_latency(rows: Sequence[Row], times: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """`times`: instruction set -> name of a row -> ms."""
    return [row.timed({isa: names[row.name] for isa, names in times.items() if row.name in names}) for row in rows]


def conditions(study: Study) -> dict[str, Any]:
    """The conditions of a measurement, which belong beside every figure: CPU, compiler, data and versions."""
    info = cpu_info()
    return {
        "cpu": info["brand"],
        "isa": info["best"],
        "compiler": info["compiler"],
        "threads": study.threads,
        "images": len(study.data),
        "calibration_images": sum(len(batch) for batch in study.calibration),
        "input": [list(x.shape) for x in study.examples],
        "versions": {"pyqinfer": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }
