"""``pyqinfer doctor``: what this machine offers and what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import typer

from pyqinfer._core import __version__, cpu_info
from pyqinfer.cli.common import OutputOption, Style, print_report
from pyqinfer.install import get_cmake_dir, get_tool
from pyqinfer.report import Column, Report
from pyqinfer.threads import default_threads

_PACKAGES = {
    "numpy": "needed",
    "torch": "quantize and convert torch models: pip install 'pyqinfer[torch]'",
    "typer": "this command: pip install 'pyqinfer[cli]'",
    "rich": "progress bars: pip install 'pyqinfer[cli]'",
    "matplotlib": "plots: pip install 'pyqinfer[plot]'",
}


def command(output: Style = OutputOption) -> None:
    """Show the CPU, the instruction sets in use, the threads and the optional packages."""
    info = cpu_info()
    rows: list[dict[str, str | int | float | None]] = [
        {"what": "pyqinfer", "value": f"{__version__} ({info['compiler']})", "note": ""},
        {"what": "Python", "value": platform.python_version(), "note": platform.platform()},
        {"what": "CPU", "value": info["brand"], "note": platform.machine()},
        {"what": "instruction sets", "value": ", ".join(info["isas"]), "note": f"auto = {info['best']} {info['warning']}".rstrip()},
        {
            "what": "threads",
            "value": str(info["threads"]),
            "note": f"default {default_threads()} (PYQINFER_NUM_THREADS, OMP_NUM_THREADS)",
        },
        {"what": "load", "value": _load(), "note": "benchmarks want a quiet machine"},
        {"what": "pqi tool", "value": _present(get_tool()), "note": get_tool()},
        {"what": "CMake package", "value": _present(get_cmake_dir()), "note": get_cmake_dir()},
    ]
    for package, note in _PACKAGES.items():
        try:
            rows.append({"what": package, "value": importlib.metadata.version(package), "note": ""})
        except importlib.metadata.PackageNotFoundError:
            rows.append({"what": package, "value": "not installed", "note": note})
    columns = [Column("what", "what", numeric=False), Column("value", "found", numeric=False), Column("note", "", numeric=False)]
    print_report(Report("pyqinfer doctor", columns, rows), output)
    if info["best"] == "reference":
        typer.echo("This CPU has none of the instruction sets that kernels are built for: models run, but slowly.", err=True)


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _present(path: str) -> str:
    return "present" if Path(path).exists() else "missing"
