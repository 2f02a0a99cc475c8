"""Names the build of the engine that a measurement was made with."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from pyqinfer import _core


@cache
def engine_build() -> str:
    """Version of the package and the first digits of the compiled module's SHA-256, which another compiler or source changes."""
    return f"{_core.__version__}-{hashlib.sha256(Path(_core.__file__).read_bytes()).hexdigest()[:12]}"
