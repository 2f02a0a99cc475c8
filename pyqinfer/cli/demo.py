"""``pyqinfer demo``: a trained network from torch to the engine, with a table and a picture."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import OutputOption, Style, print_report, progress, stderr


def command(
    directory: Path = typer.Option(Path("demo-output"), "--directory", help="Where the files and the picture go."),
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    output: Style = OutputOption,
) -> None:
    """Quantize a trained ResNet-20, convert it, check the engine against torch on unseen fonts, and time it."""
    from pyqinfer.study.demo import run_demo
    from pyqinfer.study.demo_picture import draw

    with progress("demo") as update:
        result = run_demo(directory, threads, lambda step: stderr.print(f"• {step}"), update)
    draw(result, directory / "demo.png")
    print_report(result.report, output)
    stderr.print(f"\nFiles and picture: {directory}/ (demo.png, *.pqi; try: pyqinfer inspect {directory}/resnet20_glyphs_int8.pqi)")
