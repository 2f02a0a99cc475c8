"""Latency of several models against each other, interleaved so that a drifting machine drifts for all of them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyqinfer._core import cpu_info
from pyqinfer.measure.blocks import Measured, run_block
from pyqinfer.measure.candidates import KINDS, is_torch, named_candidates, opened, positional
from pyqinfer.model import Model
from pyqinfer.report import Column, Report
from pyqinfer.session import Session

Candidate = Any  # Model, Session, torch module, or a callable that takes the inputs
Cells = dict[str, str | int | float | None]


@dataclass(frozen=True)
class _Runner:
    name: str
    call: Callable[[], Any]
    is_float: bool
    computes: bool  # in this process all the time, so that pauses come from other work
    model: Model | None


def benchmark(
    candidates: Candidate | Sequence[Candidate] | Mapping[str, Candidate],
    inputs: Any,
    threads: int = 1,
    rounds: int = 6,
    min_time: float = 1.0,
    isa: str = "auto",
    concurrency: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Time each candidate on the same inputs.

    Blocks of calls alternate (A B C A B C ...) for ``rounds`` rounds, three calls at each block's start are discarded, and the table
    gives the median, the 90th and the 99th percentile over all calls in ms, and the images per second: rows of the first input times
    calls, by the time that they took together. The speed-up is against the fastest float candidate, so that a weak float baseline
    flatters nobody; where the machine was busy with other work there is none, and a note says so.

    Args:
        candidates: name -> Model, Session, path of a file, torch module (run in eval mode without gradients) or callable; or a list of
            them, or one alone, which are called by their file or class. Sessions keep their own threads and ISA.
        inputs: positional inputs, numpy arrays or torch CPU tensors; one alone needs no tuple. Sessions get arrays, torch modules get
            tensors.
        threads: how many Models and torch may use, at least 1.
        rounds: number of blocks per candidate, at least 1.
        min_time: least time per candidate over all rounds, in seconds.
        isa: the instruction set that Models run on.
        concurrency: how many callers call each candidate at once, each from a thread of its own, at least 1.
        on_progress: called with (blocks done, blocks in all).

    Raises:
        TypeError, ValueError: a candidate or an argument that cannot be used.
    """
    named, given = {name: opened(candidate) for name, candidate in named_candidates(candidates).items()}, positional(inputs)
    if threads < 1 or rounds < 1 or min_time <= 0 or concurrency < 1:
        raise ValueError(f"expected threads, rounds, concurrency >= 1 and min_time > 0; got {threads}, {rounds}, {concurrency}, {min_time}")
    runners = [_runner(name, candidate, given, threads, isa) for name, candidate in named.items()]
    measured = {runner.name: Measured() for runner in runners}
    with _torch_threads(threads), _evaluating(named.values()):
        for done in range(rounds):
            for i, runner in enumerate(runners):
                measured[runner.name].add(run_block(runner.call, min_time / rounds, concurrency, threads))
                if on_progress is not None:
                    on_progress(done * len(runners) + i + 1, rounds * len(runners))
    images = given[0].shape[0] if given[0].ndim else 1
    return _report(runners, measured, threads, concurrency, images)


def _runner(name: str, candidate: Candidate, inputs: tuple[Any, ...], threads: int, isa: str) -> _Runner:
    arrays = [np.asarray(x) for x in inputs]
    if isinstance(candidate, Model):
        candidate = Session(candidate, threads=threads, isa=isa)
    if isinstance(candidate, Session):
        session = candidate
        shapes = {port: array.shape for port, array in session.name_inputs(arrays).items()}
        return _Runner(name, lambda: session(*arrays), session.model.integer_share(shapes) == 0.0, True, session.model)
    if is_torch(candidate):
        import torch

        from pyqinfer.arguments import explained

        tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]
        simulated = isinstance(candidate, torch.fx.GraphModule) and any("quantize" in str(node.target) for node in candidate.graph.nodes)

        def call() -> Any:
            with torch.inference_mode():
                return candidate(*tensors)

        with explained(candidate, tensors, "inputs"), _evaluating([candidate]):
            call()
        return _Runner(name, call, not simulated, True, None)
    if callable(candidate):
        return _Runner(name, lambda: candidate(*inputs), False, False, None)
    raise TypeError(f"{name}: expected {KINDS}, or a callable, got {type(candidate).__name__}")


@contextmanager
def _evaluating(candidates: Iterable[Candidate]) -> Iterator[None]:
    """A context in which all torch modules among the candidates are in evaluation mode."""
    with ExitStack() as stack:
        for candidate in candidates:
            if is_torch(candidate):
                from pyqinfer.frontend.export import evaluation_mode

                stack.enter_context(evaluation_mode(candidate))
        yield


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _report(runners: Sequence[_Runner], measured: Mapping[str, Measured], threads: int, concurrency: int, images: int) -> Report:
    medians = {name: found.percentile(50) for name, found in measured.items()}
    busy = [runner.name for runner in runners if runner.computes and measured[runner.name].disturbed]
    float_times = {runner.name: medians[runner.name] for runner in runners if runner.is_float}
    baseline = min(float_times, key=lambda name: float_times[name]) if float_times else None
    rows: list[Cells] = []
    for runner in runners:
        found = measured[runner.name]
        rows.append(
            {
                "name": runner.name,
                "p50_ms": medians[runner.name],
                "p90_ms": found.percentile(90),
                "p99_ms": found.percentile(99),
                "min_ms": min(found.times),
                "calls": len(found.times),
                "images_per_s": images * len(found.times) / found.seconds,
                "speedup": medians[baseline] / medians[runner.name] if baseline and not busy else None,
            }
        )
    info = cpu_info()
    columns = [
        Column("name", "model", numeric=False),
        Column("p50_ms", "p50 ms", ".3f"),
        Column("p90_ms", "p90 ms", ".3f"),
        Column("p99_ms", "p99 ms", ".3f"),
        Column("min_ms", "min ms", ".3f"),
        Column("calls", "calls", "d"),
        Column("images_per_s", "images/s", ",.0f"),
        Column("speedup", "speed-up", ".2f"),
    ]
    notes = [f"speed-up against {baseline}, the fastest float candidate"] if baseline and not busy else []
    if busy:
        notes.append(
            f"this machine is busy: calls of {', '.join(busy)} were interrupted by other work, so there is no speed-up and the times are"
            " too long; run again on a quiet machine (`pyqinfer doctor` shows the load)"
        )
    facts = {
        "cpu": info["brand"],
        "isa": info["best"],
        "threads": threads,
        "concurrency": concurrency,
        "batch": images,
        "busy": bool(busy),
        "baseline": baseline,
        "compiler": info["compiler"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(sys.modules["torch"].__version__) if "torch" in sys.modules else None,
    }
    return Report(f"Latency: {info['brand']} ({info['best']}), threads {threads}", columns, rows, facts, notes)
