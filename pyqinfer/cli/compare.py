"""``pyqinfer compare``: a model in the engine against torch, or against another file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
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
from pyqinfer.cli.inputs import example_inputs, load_arrays
from pyqinfer.measure.compare import compare
from pyqinfer.model import Model


def command(
    reference: str = typer.Argument(help=f"What is right: {MODEL_HELP}"),
    model: str = typer.Argument(help="What is compared with it, likewise; a torch model is converted first."),
    data: Path | None = typer.Option(None, "--data", help="Inputs (.npy or .npz). Default: random."),
    input: list[str] = InputOption,
    min_sqnr: float = typer.Option(0.0, "--min-sqnr", help="Least signal-to-noise ratio of an output in dB; exit code 1 below it."),
    seed: int = typer.Option(0, "--seed", help="Seed of the random inputs."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    output: Style = OutputOption,
) -> None:
    """Compare the outputs of a torch model (or of another file) and of the engine on the same inputs."""
    limits, first, second = run_limits(max_memory), load_reference(reference), load_reference(model)
    known = first if isinstance(first, Model) else second
    names = list(known.inputs) if isinstance(known, Model) else []
    arrays = load_arrays(data, names) if data is not None else example_inputs(known, input, seed, limits)
    report = compare(first, open_session(second, arrays, isa=isa, limits=limits), arrays)
    print_report(report, output)
    # NaN, which the outputs' own NaN make of the ratio, is not above any limit.
    if not all(float(row["sqnr_db"] or 0) >= min_sqnr for row in report.rows):
        raise typer.Exit(1)
