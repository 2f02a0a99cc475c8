"""``pyqinfer bench``: latency of models side by side."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    InputOption,
    IsaOption,
    OutputOption,
    Style,
    load_reference,
    model_input_shapes,
    parse_list,
    print_report,
    progress,
    random_inputs,
)
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.report import Column, Report


def command(
    models: list[str] = typer.Argument(help=MODEL_HELP),
    input: list[str] = InputOption,
    threads: str = typer.Option("1", "--threads", help="Numbers of threads, comma list: 1,2."),
    min_time: float = typer.Option(1.0, "--min-time", help="Seconds per model and number of threads."),
    seed: int = typer.Option(0, "--seed", help="Of the random inputs."),
    isa: str = IsaOption,
    output: Style = OutputOption,
) -> None:
    """Time models in turn (A B A B ...) on random inputs; the speed-up is against the fastest float model."""
    candidates = {_name(reference): load_reference(reference) for reference in models}
    if len(candidates) != len(models):
        raise ValueError("two models have the same name: " + ", ".join(_name(m) for m in models))
    inputs = random_inputs(model_input_shapes(next(iter(candidates.values())), input), seed)
    rows = []
    report = None
    for count in parse_list(threads, "--threads"):
        with progress(f"bench, {count} threads") as update:
            report = benchmark(candidates, inputs, threads=count, min_time=min_time, isa=isa, on_progress=update)
        rows += [{"threads": count, **row} for row in report.rows]
    assert report is not None  # parse_list gives at least one number
    columns = [report.columns[0], Column("threads", "threads", "d"), *report.columns[1:]]
    shapes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
    title = f"Latency on {shapes}: {report.facts['cpu']} ({report.facts['isa']})"
    print_report(Report(title, columns, rows, report.facts, report.notes), output)


def _name(reference: str) -> str:
    return Path(reference).name if reference.endswith(".pqi") else reference.rpartition(":")[2]
