"""The ``pyqinfer`` command: one file per sub-command."""

from __future__ import annotations

import sys

from pyqinfer.install import config_lines, missing_extra


def main() -> None:
    """Entry point. Results go to stdout, progress and errors to stderr; the exit code is not 0 on failure.

    ``pyqinfer config`` needs no package beside numpy, because builds of C++ programs call it.
    """
    try:
        from pyqinfer.cli.app import app
    except ModuleNotFoundError as error:
        hint = missing_extra(error)
        if hint is None:
            raise
        options = [argument.removeprefix("--") for argument in sys.argv[2:]]
        if sys.argv[1:2] == ["config"] and set(options) <= {line.partition(":")[0] for line in config_lines()}:
            print("\n".join(config_lines(options)))
            return
        sys.exit(f"The pyqinfer command needs {error.name}: pip install 'pyqinfer[cli]'")
    app()
