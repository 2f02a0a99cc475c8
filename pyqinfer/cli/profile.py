"""``pyqinfer profile``: time of each layer."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    AlgorithmOption,
    FipOption,
    InputOption,
    IsaOption,
    MaxMemoryOption,
    OutputOption,
    Style,
    load_reference,
    open_session,
    print_report,
    run_limits,
)
from pyqinfer.cli.inputs import example_inputs
from pyqinfer.measure.profile import profile


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    input: list[str] = InputOption,
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    repeat: int = typer.Option(20, "--repeat", help="Runs; each layer's median is shown."),
    seed: int = typer.Option(0, "--seed", help="Seed of the random inputs."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    algorithm: str = AlgorithmOption,
    fip: str = FipOption,
    trace: Path | None = typer.Option(None, "--trace", help="Also write a Chrome trace (.json), which ui.perfetto.dev draws."),
    output: Style = OutputOption,
) -> None:
    """Show how long each layer takes and how it is executed."""
    limits, loaded = run_limits(max_memory), load_reference(model)
    inputs = example_inputs(loaded, input, seed, limits)
    session = open_session(loaded, inputs, threads, isa, algorithm, fip, limits)
    print_report(profile(session, inputs, repeat, trace=trace), output)
