"""``pyqinfer run``: run a model on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer

from pyqinfer.cli.common import MODEL_HELP, IsaOption, MaxMemoryOption, load_reference, open_session, run_limits
from pyqinfer.cli.inputs import load_arrays
from pyqinfer.model import Model


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    data: Path = typer.Argument(help="Inputs: .npy, or .npz with one array per input, by its name or in order."),
    out: Path = typer.Option(..., "--out", help="Where to write the outputs: .npz, or .npy for a model with one output."),
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
) -> None:
    """Run a model on the arrays of a file and write its outputs. A torch model is converted first."""
    if out.suffix not in (".npz", ".npy"):
        raise ValueError(f"--out {out}: expected a name that ends in .npz or .npy")
    loaded = load_reference(model)
    arrays = load_arrays(data, list(loaded.inputs) if isinstance(loaded, Model) else [])
    session = open_session(loaded, arrays, threads, isa, limits=run_limits(max_memory))
    if len(arrays) != len(session.model.inputs):
        raise ValueError(f"{data} holds {len(arrays)} arrays; the model's inputs are {', '.join(session.model.inputs)}")
    if out.suffix == ".npy" and len(session.model.outputs) > 1:
        raise ValueError(f"--out {out}: a .npy file holds one array, and the model's outputs are {', '.join(session.model.outputs)}")
    result = session.run(arrays)
    _write(out, result)
    for name, array in result.items():
        typer.echo(f"{name}: {array.dtype} {'x'.join(map(str, array.shape))}")


def _write(out: Path, result: dict[str, Any]) -> None:
    if out.suffix == ".npy":
        np.save(out, next(iter(result.values())))
    else:
        np.savez(out, **result)
