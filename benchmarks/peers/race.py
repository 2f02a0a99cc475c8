"""The race protocol: candidates take turns in blocks, framed by the machine's peak; a race on an unsteady machine is run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers.worker import Block, CandidateError

TimeBlock = Callable[[], list[float]]  # one block of one candidate: milliseconds of each call
MeasurePeak = Callable[[], float | None]  # GMAC/s, None where it cannot be measured


@dataclass(frozen=True)
class Protocol:
    """How a race is run.

    Args:
        rounds: how often every candidate has its turn (A B C A B C ...).
        block: calls of one candidate in one round.
        pause: seconds between blocks, for the threads that an engine leaves spinning after its last call.
        tolerance: largest relative difference of the peaks before and after a race.
        tries: the most races run until one is steady.
    """

    rounds: int = 6
    block: Block = field(default_factory=Block)
    pause: float = 0.1
    tolerance: float = 0.03
    tries: int = 3


@dataclass(frozen=True)
class Try:
    """One race: the peaks around it in GMAC/s, every candidate's blocks in ms, and why candidates dropped out."""

    before: float | None
    after: float | None
    blocks: Mapping[str, Sequence[Sequence[float]]]
    failures: Mapping[str, str]

    def peak(self) -> float | None:
        """The better of the two measurements, GMAC/s: what the machine can do when nobody else is at it."""
        return None if self.before is None or self.after is None else max(self.before, self.after)

    def steady(self, tolerance: float) -> bool:
        """Whether the machine was equally fast before and after; True where no peak can be measured."""
        if self.before is None or self.after is None:
            return True
        return abs(self.after - self.before) <= tolerance * max(self.before, self.after)


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median and 90th percentile of all calls, the fastest call, and the median of each block."""

    median: float
    p90: float
    fastest: float
    calls: int
    block_medians: Sequence[float]


def timing(blocks: Iterable[Sequence[float]]) -> Timing:
    """Statistics of one candidate's blocks. Raises ValueError without any call."""
    kept = [block for block in blocks if block]
    if not kept:
        raise ValueError("no calls were timed")
    every = np.concatenate([np.asarray(block) for block in kept])
    medians = [float(np.median(block)) for block in kept]
    return Timing(float(np.median(every)), float(np.percentile(every, 90)), float(every.min()), len(every), medians)


def run_once(runners: Mapping[str, TimeBlock], rounds: int, pause: float, on_block: Callable[[], None]) -> Try:
    """A B C A B C ... without the peaks. A candidate that fails in one round is left out of the next ones, and has no times."""
    blocks: dict[str, list[list[float]]] = {name: [] for name in runners}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for name, time_block in runners.items():
            if name not in failures:
                time.sleep(pause)
                try:
                    blocks[name].append(time_block())
                except CandidateError as error:
                    failures[name] = str(error)
            on_block()
    return Try(None, None, {name: times for name, times in blocks.items() if name not in failures}, failures)


def race(
    runners: Mapping[str, TimeBlock], peak: MeasurePeak, protocol: Protocol, on_block: Callable[[int], None] = lambda number: None
) -> list[Try]:
    """Races until one is steady, at most ``protocol.tries``; all of them, the last being the one that counts.

    ``on_block`` is called after every block with the number of the try, from 1.
    """
    tries: list[Try] = []
    remaining = dict(runners)
    failures: dict[str, str] = {}
    for number in range(1, protocol.tries + 1):
        before = peak()

        def report(number: int = number) -> None:
            on_block(number)

        once = run_once(remaining, protocol.rounds, protocol.pause, report)
        failures.update(once.failures)
        tries.append(Try(before, peak(), once.blocks, dict(failures)))
        if tries[-1].steady(protocol.tolerance):
            break
        remaining = {name: runner for name, runner in remaining.items() if name not in failures}
    return tries
