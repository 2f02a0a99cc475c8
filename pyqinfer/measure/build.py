"""Names the build of the engine that a measurement was made with."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from pyqinfer import _core
from pyqinfer.install import get_lib_dir


@cache
def engine_build() -> str:
    """Version of the package and the first digits of a SHA-256 that another compiler or source changes.

    It is that of the compiled module, and of the shared library that holds the engine in a wheel.
    """
    content = hashlib.sha256(Path(_core.__file__).read_bytes())
    library = Path(get_lib_dir(), "libpyqinfer.so")
    if library.is_file():
        content.update(library.read_bytes())
    return f"{_core.__version__}-{content.hexdigest()[:12]}"
