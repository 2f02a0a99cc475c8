"""Paths of the C and C++ library inside the wheel, and the extras that optional packages belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyqinfer import _core

# Optional package -> the extra of pyqinfer that installs it.
_EXTRAS = {
    "torch": "torch",
    "scipy": "torch",
    "rich": "torch",
    "typer": "cli",
    "click": "cli",
    "matplotlib": "plot",
    "onnx": "onnx",
    "PIL": "demo",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Say how an optional package that was not found is installed; None for any other module."""
    package = (error.name or "").partition(".")[0]
    return f"this needs {package}: pip install 'pyqinfer[{_EXTRAS[package]}]'" if package in _EXTRAS else None


def _root() -> Path:
    # The files lie beside the compiled module, which an editable installation has in site-packages, not in the source tree.
    return Path(_core.__file__).resolve().parent


def get_include() -> str:
    """Directory of ``pyqinfer/pyqinfer.h`` and ``pyqinfer/pyqinfer.hpp``."""
    return str(_root() / "include")


def get_cmake_dir() -> str:
    """Directory for ``-Dpyqinfer_ROOT=`` or ``-Dpyqinfer_DIR=``, so that ``find_package(pyqinfer)`` finds this installation."""
    return str(_root() / "lib" / "cmake" / "pyqinfer")


def get_lib_dir() -> str:
    """Directory of the shared library."""
    return str(_root() / "lib")


def config_lines(asked: Sequence[str] = ()) -> list[str]:
    """Give what ``pyqinfer config`` prints: the paths that are asked for, or all of them with their names.

    Args:
        asked: of ``cmakedir``, ``includedir``, ``libdir`` and ``pkgconfigdir``.
    """
    paths = {
        "cmakedir": get_cmake_dir(),
        "includedir": get_include(),
        "libdir": get_lib_dir(),
        "pkgconfigdir": str(_root() / "lib" / "pkgconfig"),
    }
    return [paths[name] for name in asked] or [f"{name}: {path}" for name, path in paths.items()]


def get_tool() -> str:
    """Path of the ``pqi`` command-line tool."""
    return str(_root() / "bin" / "pqi")
