"""``pyqinfer profile``: time of each layer."""

from __future__ import annotations

import typer

from pyqinfer.cli.common import (
    AlgorithmOption,
    FipOption,
    InputOption,
    IsaOption,
    MaxMemoryOption,
    OutputOption,
    Style,
    load_pqi,
    model_input_shapes,
    print_report,
    random_inputs,
    run_limits,
)
from pyqinfer.measure.profile import profile
from pyqinfer.session import Session


def command(
    model: str = typer.Argument(help="file.pqi"),
    input: list[str] = InputOption,
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    repeat: int = typer.Option(20, "--repeat", help="Runs; each layer's median is shown."),
    seed: int = typer.Option(0, "--seed", help="Seed of the random inputs."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    algorithm: str = AlgorithmOption,
    fip: str = FipOption,
    output: Style = OutputOption,
) -> None:
    """Show how long each layer takes and how it is executed."""
    session = Session(load_pqi(model), threads=threads, isa=isa, algorithm=algorithm, fip=fip, run_options=run_limits(max_memory))
    print_report(profile(session, random_inputs(model_input_shapes(session.model, input), seed), repeat), output)
