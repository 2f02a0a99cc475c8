"""The ``pyqinfer`` command: one file per sub-command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. Results go to stdout, progress and errors to stderr; the exit code is not 0 on failure."""
    try:
        from pyqinfer.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        sys.exit(f"The pyqinfer command needs {error.name}: pip install 'pyqinfer[cli]'")
    app()
