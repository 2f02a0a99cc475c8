"""``pyqinfer verify``: run the samples that a file carries."""

from __future__ import annotations

import numpy as np
import typer

from pyqinfer.cli.common import IsaOption, MaxMemoryOption, OutputOption, Style, load_pqi, print_report, run_limits
from pyqinfer.report import Column, Report
from pyqinfer.session import Session


def command(
    model: str = typer.Argument(help="file.pqi"),
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    output: Style = OutputOption,
) -> None:
    """Check on this machine that a file gives the outputs stored in it, bit for bit. Exit code 1 if not."""
    loaded = load_pqi(model)
    session = Session(loaded, threads=threads, isa=isa, run_options=run_limits(max_memory))
    samples = loaded.graph["samples"]
    if not samples:
        raise ValueError(f"{model} carries no samples: convert it with samples=1 or more")
    rows: list[dict[str, str | int | float | None]] = []
    for number, sample in enumerate(samples):
        result = session.run({name: loaded.constant(i) for name, i in sample["inputs"].items()})
        for name, index in sample["outputs"].items():
            expected, got = loaded.constant(index), result[name]
            different = int(np.count_nonzero(expected.view(np.uint8) != got.view(np.uint8)))
            rows.append({"sample": number, "output": name, "elements": expected.size, "different_bytes": different})
    columns = [
        Column("sample", "sample", "d"),
        Column("output", "output", numeric=False),
        Column("elements", "elements", ",d"),
        Column("different_bytes", "bytes that differ", ",d"),
    ]
    failed = any(row["different_bytes"] for row in rows)
    print_report(Report(f"Stored samples on {session.isa}: {'DIFFERENT' if failed else 'identical'}", columns, rows), output)
    if failed:
        raise typer.Exit(1)
