"""The command line as a user runs it, in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from pyqinfer.cli.app import app


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``pyqinfer ARGUMENTS``."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, done.stdout, done.stderr
