"""``pyqinfer compare``: a torch model against a ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    InputOption,
    IsaOption,
    MaxMemoryOption,
    OutputOption,
    Style,
    load_arrays,
    load_pqi,
    load_reference,
    model_input_shapes,
    print_report,
    random_inputs,
    run_limits,
)
from pyqinfer.measure.compare import compare
from pyqinfer.session import Session


def command(
    torch_model: str = typer.Argument(help="module:callable or file.py:callable"),
    model: str = typer.Argument(help="file.pqi"),
    data: Path | None = typer.Option(None, "--data", help="Inputs (.npy or .npz). Default: random."),
    input: list[str] = InputOption,
    min_sqnr: float = typer.Option(0.0, "--min-sqnr", help="Least signal-to-noise ratio of an output in dB; exit code 1 below it."),
    seed: int = typer.Option(0, "--seed", help="Seed of the random inputs."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    output: Style = OutputOption,
) -> None:
    """Compare the outputs of a torch model and of the engine on the same inputs."""
    session = Session(load_pqi(model), threads=1, isa=isa, run_options=run_limits(max_memory))
    module = load_reference(torch_model)
    arrays = (
        load_arrays(data, list(session.model.inputs)) if data is not None else random_inputs(model_input_shapes(session.model, input), seed)
    )
    report = compare(module, session, arrays)
    print_report(report, output)
    # NaN, which the outputs' own NaN make of the ratio, is not above any limit.
    if not all(float(row["sqnr_db"] or 0) >= min_sqnr for row in report.rows):
        raise typer.Exit(1)
