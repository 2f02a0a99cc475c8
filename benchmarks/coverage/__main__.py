"""Command line: ``python -m benchmarks.coverage --help``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.coverage.case import Outcome
from benchmarks.coverage.page import page
from benchmarks.coverage.sources import PACKAGES, cases_of
from benchmarks.coverage.table import report
from benchmarks.coverage.trial import FORMS, Job, send
from pyqinfer.cli.common import named_progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every model, print the table, keep it as JSON and as a page; progress on stderr."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES), choices=PACKAGES)
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--dynamic-size", action="store_true", help="open heights, widths and sequence lengths as well")
    parser.add_argument("--seconds", type=float, default=180, help="a conversion that takes longer is a failure")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="JSON", help="try nothing: join these files, where later ones replace rows"
    )
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--page", type=Path, help="a page, such as docs/coverage.md")
    options = parser.parse_args(arguments)
    if options.merge:
        outcomes = merged(options.merge)
    else:
        cases = [case for package in options.packages for case in cases_of(package)]
        names = [(c.package, c.name) for c in cases if not options.only or c.name in options.only]
        jobs = [Job(*name, form, options.dynamic_size) for name in names for form in options.forms]
        if not jobs:
            print("error: --only names no model of these packages", file=sys.stderr)
            return 2
        outcomes = []
        for outcome in _tried(jobs, options.packages, options.processes, options.seconds):
            outcomes.append(outcome)
            _write(options.out, outcomes)
    _write(options.out, outcomes)
    if options.page is not None:
        options.page.write_text(page(outcomes))
    print(report(outcomes))
    return 0


def merged(paths: Sequence[Path]) -> list[Outcome]:
    """The rows of several files in order; a later row for the same model and form takes the place of an earlier one."""
    rows = [Outcome(**row) for path in paths for row in json.loads(path.read_text())]
    return list({(row.package, row.name, row.form): row for row in rows}.values())


def _write(path: Path | None, outcomes: Sequence[Outcome]) -> None:
    if path is not None:
        path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")


def _tried(jobs: Sequence[Job], packages: Sequence[str], processes: int, seconds: float) -> Iterator[Outcome]:
    """The outcome of each job, from a process of its own that is ended after so many seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.coverage.trial", *packages])  # what every process would import

    def one(job: Job) -> Outcome:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=send, args=(sender, job))
        process.start()
        sender.close()
        try:
            outcome: Outcome = receiver.recv() if receiver.poll(seconds) else job.failed(seconds, f"took more than {seconds:.0f} s")
        except EOFError:
            outcome = job.failed(0.0, "its process died")
        process.kill()
        process.join()
        return outcome

    with named_progress("models") as update, ThreadPoolExecutor(processes) as pool:
        for i, (job, outcome) in enumerate(zip(jobs, pool.map(one, jobs), strict=True)):
            update(f"{job.package} {job.name} {job.form}", i + 1, len(jobs))
            yield outcome


if __name__ == "__main__":
    sys.exit(main())
