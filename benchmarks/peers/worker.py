"""A candidate in a process of its own, asked over a pipe to prepare, to load, and to time one block of calls."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.peers.candidate import Candidate, Loaded
from benchmarks.peers.case import Case

_SECONDS = {"prepare": 3600.0, "load": 1800.0, "block": 600.0}  # after that long the process counts as hanging


class CandidateError(RuntimeError):
    """The candidate failed, died or hangs; its log has the rest."""


@dataclass(frozen=True)
class Block:
    """One timed block: at least ``calls`` calls and ``seconds`` long, after ``discarded`` calls that warm caches and clocks."""

    calls: int = 15
    seconds: float = 0.2
    discarded: int = 3


class Worker:
    """The parent's side. What the candidate prints goes to ``log``."""

    def __init__(self, candidate: Candidate, case: Case, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        context = multiprocessing.get_context("spawn")  # a fork would inherit thread pools that do not survive it
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, candidate, case, log))
        self._process.start()
        theirs.close()

    def prepare(self) -> None:
        """Make the candidate's files. Raises CandidateError, as every request does."""
        self._ask("prepare")

    def load(self, threads: int) -> tuple[float, dict[str, Any]]:
        """Load and run once; the output's cosine with torch's fp32 output, and the settings in effect."""
        answer: tuple[float, dict[str, Any]] = self._ask("load", threads)
        return answer

    def block(self, block: Block) -> list[float]:
        """Milliseconds of every call that counts."""
        times: list[float] = self._ask("block", block)
        return times

    def close(self) -> None:
        """End the process. May be called twice."""
        with contextlib.suppress(OSError):
            self._pipe.send(("close", None))
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _ask(self, what: str, argument: Any = None) -> Any:
        try:
            self._pipe.send((what, argument))
            if not self._pipe.poll(_SECONDS[what]):
                raise CandidateError(f"{what}: no answer within {_SECONDS[what]:.0f} s; see {self._log}")
            done, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise CandidateError(f"{what}: the process died (exit code {self._process.exitcode}); see {self._log}") from None
        if not done:
            raise CandidateError(f"{what}: {value}; see {self._log}")
        return value


@contextmanager
def worker(candidate: Candidate, case: Case, log: Path) -> Iterator[Worker]:
    """A worker that is closed at the end."""
    started = Worker(candidate, case, log)
    try:
        yield started
    finally:
        started.close()


def time_block(loaded: Loaded, block: Block) -> list[float]:
    """Milliseconds of every call that counts."""
    for _ in range(block.discarded):
        loaded.run()
    times: list[float] = []
    end = time.perf_counter() + block.seconds
    while len(times) < block.calls or time.perf_counter() < end:
        start = time.perf_counter()
        loaded.run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _serve(pipe: Connection, candidate: Candidate, case: Case, log: Path) -> None:
    """The child's side: answer requests until told to close, or until the parent is gone."""
    _redirect_output(log)
    loaded: Loaded | None = None
    while True:
        try:
            what, argument = pipe.recv()
        except EOFError:
            return
        if what == "close":
            return
        try:
            value: Any = None
            if what == "prepare":
                candidate.prepare(case)
            elif what == "load":
                loaded = candidate.load(case, argument)
                cosine = case.cosine(loaded.run())
                value = (cosine if math.isfinite(cosine) else 0.0, dict(loaded.settings))
            elif loaded is not None:
                value = time_block(loaded, argument)
        except Exception as error:  # whatever an engine raises is a row in the table, not the end of the race
            import traceback

            traceback.print_exc()
            first = (str(error).strip().splitlines() or [""])[0]
            pipe.send((False, f"{type(error).__name__}: {first[:200]}"))
        else:
            pipe.send((True, value))


def _redirect_output(log: Path) -> None:
    """Engines print from Python and from C: both file descriptors go to the log, so the tables stay readable."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
