"""Command line: ``python -m benchmarks.coverage --help``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.coverage.case import Outcome
from benchmarks.coverage.sources import PACKAGES, cases_of
from benchmarks.coverage.table import report
from benchmarks.coverage.trial import FORMS, prepare_process, run
from pyqinfer.cli.common import named_progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every model, print the table, keep it as JSON; progress on stderr."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES), choices=PACKAGES)
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--dynamic-size", action="store_true", help="open heights, widths and sequence lengths as well")
    parser.add_argument("--seconds", type=float, default=180, help="a conversion that takes longer is a failure")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    cases = [case for package in options.packages for case in cases_of(package)]
    jobs = [
        (c.package, c.name, form, options.dynamic_size)
        for c in cases
        if not options.only or c.name in options.only
        for form in options.forms
    ]
    if not jobs:
        print("error: --only names no model of these packages", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    with (
        named_progress("models") as update,
        multiprocessing.get_context("spawn").Pool(options.processes, prepare_process, maxtasksperchild=1) as pool,
    ):
        pending = [(job, pool.apply_async(run, job)) for job in jobs]
        for i, (job, result) in enumerate(pending):
            update(f"{job[0]} {job[1]} {job[2]}", i, len(jobs))
            try:
                outcomes.append(result.get(options.seconds * (1 if i else 2)))
            except multiprocessing.TimeoutError:
                outcomes.append(Outcome(*job[:3], "refused", options.seconds, 0, reason="took too long, or its process died"))
            if options.out is not None:
                options.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    print(report(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
