"""What importing the package loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "typer", "rich", "sklearn", "PIL")


@pytest.mark.parametrize("statement", ["import pyqinfer", "import pyqinfer.session, pyqinfer.reference, pyqinfer.measure.benchmark"])
def test_import_loads_numpy_and_nothing_heavy(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_exists() -> None:
    import pyqinfer

    missing = [name for name in pyqinfer.__all__ if not hasattr(pyqinfer, name)]
    assert missing == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    import pyqinfer

    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        pyqinfer.quantise  # noqa: B018
