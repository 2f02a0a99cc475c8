"""``pyqinfer export``: a ``.pqi`` file as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import load_pqi


def command(
    model: str = typer.Argument(help="file.pqi"),
    out: Path = typer.Argument(help="The file to write (.onnx)."),
) -> None:
    """Write a converted model as ONNX: quantize and dequantize nodes around its layers, with a Clip between where bits are below 8."""
    data = load_pqi(model).to_onnx()
    out.write_bytes(data)
    typer.echo(f"{out}: {len(data):,} bytes")
