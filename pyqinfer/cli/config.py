"""``pyqinfer config``: paths for building C and C++ programs against the wheel."""

from __future__ import annotations

import typer

from pyqinfer.install import get_cmake_dir, get_include, get_lib_dir


def command(
    cmakedir: bool = typer.Option(False, "--cmakedir", help="Directory for -Dpyqinfer_DIR=."),
    includedir: bool = typer.Option(False, "--includedir", help="Directory of the headers."),
    libdir: bool = typer.Option(False, "--libdir", help="Directory of the libraries."),
) -> None:
    """Print installation paths, one per line; all of them with their names if no option is given."""
    paths = {"cmakedir": get_cmake_dir(), "includedir": get_include(), "libdir": get_lib_dir()}
    asked = [name for name, wanted in {"cmakedir": cmakedir, "includedir": includedir, "libdir": libdir}.items() if wanted]
    for name in asked:
        typer.echo(paths[name])
    if not asked:
        for name, path in paths.items():
            typer.echo(f"{name}: {path}")
