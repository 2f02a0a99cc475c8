"""``pyqinfer inspect``: what is in a ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    AlgorithmOption,
    FipOption,
    InputOption,
    IsaOption,
    OutputOption,
    Style,
    load_pqi,
    model_input_shapes,
    print_report,
)
from pyqinfer.model import Model
from pyqinfer.session import Session


def command(
    model: str = typer.Argument(help="file.pqi or file.onnx"),
    size: bool = typer.Option(False, "--size", help="Bytes by layer against 32-bit floats, two bits a weight, zlib, xz, entropy."),
    against: Path | None = typer.Option(None, "--against", help="The float network's file, for the ratio of --size.", exists=True),
    executed: bool = typer.Option(False, "--executed", help="The algorithm that runs each layer on this machine."),
    input: list[str] = InputOption,
    isa: str = IsaOption,
    algorithm: str = AlgorithmOption,
    fip: str = FipOption,
    output: Style = OutputOption,
) -> None:
    """Show the layers of a file: bits, MACs, BOPs, bytes. Of an ONNX file, those that its conversion gives."""
    loaded = _converted(model) if model.endswith(".onnx") else load_pqi(model)
    if size:
        print_report(loaded.size_report(None if against is None else against.stat().st_size), output)
        return
    if executed:
        print_report(Session(loaded, threads=1, isa=isa, algorithm=algorithm, fip=fip).layer_report(), output)
        return
    shapes = dict(zip(loaded.inputs, model_input_shapes(loaded, input), strict=True))
    print_report(loaded.summary(shapes), output)


def _converted(path: str) -> Model:
    from pyqinfer.conversion import convert

    return convert(path, samples=0, check=False)
