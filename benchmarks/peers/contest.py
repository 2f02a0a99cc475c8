"""From a list of candidates to a race: prepare and load each in its own process, leave out what cannot run, time the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.peers.candidate import Candidate
from benchmarks.peers.case import Case
from benchmarks.peers.peak import Peak
from benchmarks.peers.race import Protocol, Try, race, timing
from benchmarks.peers.results import OK, Race, Row
from benchmarks.peers.worker import CandidateError, Worker, worker

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


def prepare(candidates: Sequence[Candidate], case: Case, on_progress: Progress) -> dict[str, str]:
    """Make every candidate's files, each in a process that ends afterwards, so that no quantizer's leftovers sit beside the timing.

    Returns the reasons why candidates cannot take part.
    """
    reasons: dict[str, str] = {}
    for done, candidate in enumerate(candidates):
        on_progress(f"{case.model}: preparing {candidate.name}", done, len(candidates))
        missing = candidate.missing_packages()
        if missing:
            reasons[candidate.name] = f"not installed: pip install {' '.join(missing)}"
            continue
        try:
            with worker(candidate, case, _log(candidate, case, "prepare")) as process:
                process.prepare()
        except CandidateError as error:
            reasons[candidate.name] = f"failed in {error}"
    return reasons


def run_race(
    candidates: Sequence[Candidate],
    case: Case,
    threads: int,
    reasons: dict[str, str],
    peak: Peak,
    protocol: Protocol,
    on_progress: Progress,
) -> Race:
    """Race the candidates that ``reasons`` does not exclude."""
    load_average = os.getloadavg()[0]
    with ExitStack() as stack:
        rows: dict[str, Row] = {}
        processes: dict[str, Worker] = {}
        for done, candidate in enumerate(candidates):
            on_progress(f"{case.model}, threads {threads}: loading {candidate.name}", done, len(candidates))
            row = Row(candidate.name, candidate.variant, candidate.is_peer, reasons.get(candidate.name, OK))
            if row.status == OK:
                process = stack.enter_context(worker(candidate, case, _log(candidate, case, f"threads{threads}")))
                row = _load(row, candidate, process, threads)
                if row.cosine is not None:
                    processes[candidate.name] = process
            rows[candidate.name] = row
        tries = _race(processes, threads, peak, protocol, f"{case.model}, threads {threads}", on_progress)
    if tries:
        rows = {name: _with_times(row, tries[-1]) for name, row in rows.items()}
    return Race(
        case.model,
        [x.shape for x in case.inputs],
        threads,
        case.macs(),
        load_average,
        peak.undisturbed_gmacs(threads),
        list(rows.values()),
        tries,
    )


def _load(row: Row, candidate: Candidate, process: Worker, threads: int) -> Row:
    try:
        cosine, settings = process.load(threads)
    except CandidateError as error:
        return replace(row, status=f"failed in {error}")
    status = OK if cosine >= candidate.least_cosine() else f"wrong output: cosine below {candidate.least_cosine()}"
    return replace(row, status=status, cosine=cosine, settings=settings)


def _race(processes: dict[str, Worker], threads: int, peak: Peak, protocol: Protocol, what: str, on_progress: Progress) -> list[Try]:
    if not processes:
        return []
    done = [0, 0]  # number of the try, blocks in it

    def on_block(number: int) -> None:
        done[:] = [number, done[1] + 1] if number == done[0] else [number, 1]
        on_progress(f"{what}: race, try {number} of at most {protocol.tries}", done[1], protocol.rounds * len(processes))

    def runner(process: Worker) -> Callable[[], list[float]]:
        return lambda: process.block(protocol.block)

    return race({name: runner(process) for name, process in processes.items()}, lambda: peak.gmacs(threads), protocol, on_block)


def _with_times(row: Row, last: Try) -> Row:
    if row.name in last.failures:
        return replace(row, status=f"failed in {last.failures[row.name]}")
    return replace(row, timing=timing(last.blocks[row.name])) if row.name in last.blocks else row


def _log(candidate: Candidate, case: Case, stage: str) -> Path:
    name = f"{candidate.name} {stage}.log".replace(" ", "-").replace("/", "a")
    return case.root / "logs" / case.name / name
