"""Collects the sub-commands and turns expected errors into one readable line."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from pyqinfer._core import __version__
from pyqinfer.cli import bench, compare, config, convert, demo, doctor, export, inspect, pareto, profile, quantize, run, train, verify
from pyqinfer.errors import CancelledError, ConversionError
from pyqinfer.install import missing_extra

# Errors that this package raises on purpose, with a message for the user.
_SPOKEN = (TypeError, ValueError, NotImplementedError, OSError, MemoryError, ImportError, ConversionError, CancelledError)


class _Commands(typer.core.TyperGroup):
    """Prints errors as one line, ``error: ...``, with exit code 1. With PYQINFER_TRACEBACK=1 they show where they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Wrong options, --help and Ctrl-C are printed by the framework, whose exceptions have an exit code or one of these types.
            if isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code") or os.environ.get("PYQINFER_TRACEBACK"):
                raise
            hint = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
            text = hint or str(error).strip() or type(error).__name__
            if not isinstance(error, _SPOKEN):
                # Messages of torch go on for pages, and their first line says what is wrong.
                text = f"{type(error).__name__}: {text.splitlines()[0]} (PYQINFER_TRACEBACK=1 shows where)"
            typer.echo(f"error: {text}", err=True)
            sys.exit(1)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
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
