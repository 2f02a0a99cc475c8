"""Blocks of timed calls by one caller or several, and whether other work on the machine disturbed them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# A block holds at least so many timed calls of each caller, after discarded ones that warm caches and clocks up.
_DISCARDED_CALLS = 3
_MIN_BLOCK_CALLS = 5
# A caller that computes all the time is disturbed where it had less than this share of a CPU, or where its median call took so many
# times as long as its shortest. On quiet machines the two are above 0.97 and below 1.3.
_LEAST_CPU_SHARE = 0.8
_MOST_SPREAD = 2.0


@dataclass
class Measured:
    """The calls of one candidate.

    Attributes:
        times: of every call, in ms.
        seconds: that the blocks took, from their first timed call to their last.
        cpu_seconds: that this process computed meanwhile, all threads together.
    """

    times: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, other: Measured) -> None:
        self.times += other.times
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds

    def percentile(self, percent: float) -> float:
        """A percentile of the times in ms."""
        return float(np.percentile(self.times, percent))

    @property
    def disturbed(self) -> bool:
        """Whether other work took CPUs away from calls that compute all the time."""
        return self.cpu_seconds < _LEAST_CPU_SHARE * self.seconds or self.percentile(50) > _MOST_SPREAD * min(self.times)


def run_block(call: Callable[[], Any], seconds: float, concurrency: int, threads: int) -> Measured:
    """Call for so many seconds.

    Args:
        call: what is timed; safe to call from several threads if ``concurrency`` is above 1.
        concurrency: callers, each in a thread of its own if there are several.
        threads: that torch may use in each of them; torch has that setting for each thread.

    Raises:
        The first error of a call.
    """
    if concurrency == 1:
        for _ in range(_DISCARDED_CALLS):
            call()
        start, cpu = time.perf_counter(), time.process_time()
        times = _calls(call, start + seconds)
        return Measured(times, time.perf_counter() - start, time.process_time() - cpu)
    ready = threading.Barrier(concurrency + 1)
    found: list[list[float]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            torch = sys.modules.get("torch")
            if torch is not None:
                torch.set_num_threads(threads)
            for _ in range(_DISCARDED_CALLS):
                call()
            ready.wait()
            found.append(_calls(call, time.perf_counter() + seconds))
        except BaseException as error:
            errors.append(error)
            ready.abort()

    workers = [threading.Thread(target=work) for _ in range(concurrency)]
    for worker in workers:
        worker.start()
    with suppress(threading.BrokenBarrierError):  # a caller has failed, which is told below
        ready.wait()
    start, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.join()
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    return Measured([ms for times in found for ms in times], time.perf_counter() - start, time.process_time() - cpu)


def _calls(call: Callable[[], Any], end: float) -> list[float]:
    times: list[float] = []
    while len(times) < _MIN_BLOCK_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times
