"""``pyqinfer inspect``: what is in a ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    AlgorithmOption,
    FipOption,
    InputOption,
    IsaOption,
    OutputOption,
    Style,
    load_reference,
    open_session,
    print_report,
)
from pyqinfer.cli.inputs import example_inputs, model_input_shapes
from pyqinfer.model import Model
from pyqinfer.session import Session


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    size: bool = typer.Option(False, "--size", help="Bytes by layer against 32-bit floats, two bits a weight, zlib, xz, entropy."),
    against: Path | None = typer.Option(None, "--against", help="The float network's file, for the ratio of --size.", exists=True),
    executed: bool = typer.Option(False, "--executed", help="The algorithm that runs each layer on this machine."),
    input: list[str] = InputOption,
    isa: str = IsaOption,
    algorithm: str = AlgorithmOption,
    fip: str = FipOption,
    output: Style = OutputOption,
) -> None:
    """Show the layers of a file: bits, MACs, BOPs, bytes. Of a torch model or an ONNX file, those that its conversion gives."""
    loaded = load_reference(model)
    if not isinstance(loaded, Model):
        loaded = open_session(loaded, example_inputs(loaded, input, 0)).model
    if size:
        print_report(loaded.size_report(None if against is None else against.stat().st_size), output)
        return
    if executed:
        print_report(Session(loaded, threads=1, isa=isa, algorithm=algorithm, fip=fip).layer_report(), output)
        return
    shapes = dict(zip(loaded.inputs, model_input_shapes(loaded, input), strict=True))
    print_report(loaded.summary(shapes), output)
