"""Collects the sub-commands and turns expected errors into one readable line."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from pyqinfer._core import __version__
from pyqinfer.cli import bench, compare, config, convert, demo, doctor, export, inspect, pareto, profile, quantize, run, train, verify


class _Commands(typer.core.TyperGroup):
    """Prints what the user can mend as ``error: ...`` with exit code 1; a bug still shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TypeError, ValueError, NotImplementedError, OSError, MemoryError, ImportError) as error:
            if os.environ.get("PYQINFER_TRACEBACK"):
                raise
            typer.echo(f"error: {error or type(error).__name__}", err=True)
            sys.exit(1)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Quantize torch models and run them fast and bit-exact on CPUs.",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"pyqinfer {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    pass


for module in (demo, doctor, quantize, train, convert, export, run, bench, profile, compare, pareto, inspect, verify, config):
    app.command(module.__name__.rsplit(".", 1)[-1])(module.command)
