"""Measured times in a JSON file of the user's cache folder, so that a network is measured once per machine.

``{"format", "version", "environments": {environment: {"layers": {key: ms}, "networks": {key: ms}}}}``; an environment names the CPU, the
instruction set, the threads and the build of the engine, whose kernels the times are of. Delete the file to measure anew.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FORMAT, _VERSION = "pyqinfer-latency", 1
Times = dict[str, dict[str, float]]  # two tables, "layers" and "networks": key -> ms


def cache_path() -> Path:
    """``latency.json`` in ``PYQINFER_CACHE_DIR``, else in ``XDG_CACHE_HOME/pyqinfer``, else in ``~/.cache/pyqinfer``."""
    if own := os.environ.get("PYQINFER_CACHE_DIR"):
        return Path(own) / "latency.json"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyqinfer" / "latency.json"


def load_times(environment: str) -> Times:
    """What was measured in an environment. A file that cannot be understood counts as empty: it is measured again."""
    times = _read().get(environment, {})
    kinds = ("layers", "networks")
    return {kind: {k: float(ms) for k, ms in times.get(kind, {}).items() if isinstance(ms, (int, float))} for kind in kinds}


def save_times(environment: str, times: Mapping[str, Mapping[str, float]]) -> None:
    """Add times to the file, which is replaced whole. Raises OSError."""
    environments = _read()
    known = environments.setdefault(environment, {})
    for kind, found in times.items():
        known[kind] = {**known.get(kind, {}), **found}
    path = cache_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, "version": _VERSION, "environments": environments}, file, indent=1)
    os.replace(temporary, path)


def _read() -> dict[str, Any]:
    try:
        document = json.loads(cache_path().read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (_FORMAT, _VERSION):
        return {}
    environments = document.get("environments")
    return environments if isinstance(environments, dict) and all(isinstance(e, dict) for e in environments.values()) else {}
