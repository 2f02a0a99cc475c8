"""Paths of the C and C++ library inside the wheel."""

from __future__ import annotations

from pathlib import Path

from pyqinfer import _core


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
    """Directory of the static and the shared library."""
    return str(_root() / "lib")


def get_tool() -> str:
    """Path of the ``pqi`` command-line tool."""
    return str(_root() / "bin" / "pqi")
