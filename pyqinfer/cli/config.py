"""``pyqinfer config``: paths for building C and C++ programs against the wheel."""

from __future__ import annotations

import typer

from pyqinfer.install import config_lines


def command(
    cmakedir: bool = typer.Option(False, "--cmakedir", help="Directory for -Dpyqinfer_DIR=."),
    includedir: bool = typer.Option(False, "--includedir", help="Directory of the headers."),
    libdir: bool = typer.Option(False, "--libdir", help="Directory of the library."),
    pkgconfigdir: bool = typer.Option(False, "--pkgconfigdir", help="Directory for PKG_CONFIG_PATH."),
) -> None:
    """Print installation paths, one per line; all of them with their names if no option is given."""
    wanted = {"cmakedir": cmakedir, "includedir": includedir, "libdir": libdir, "pkgconfigdir": pkgconfigdir}
    for line in config_lines([name for name, asked in wanted.items() if asked]):
        typer.echo(line)
