"""``pyqinfer run``: run a file on arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from pyqinfer.cli.common import IsaOption, MaxMemoryOption, load_arrays, load_pqi, run_limits
from pyqinfer.session import Session


def command(
    model: str = typer.Argument(help="file.pqi"),
    data: Path = typer.Argument(help="Inputs: .npy, or .npz with one array per input, by its name or in order."),
    out: Path = typer.Option(..., "--out", help="Where to write the outputs (.npz)."),
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
) -> None:
    """Run a model on the arrays of a file and write its outputs."""
    session = Session(load_pqi(model), threads=threads, isa=isa, run_options=run_limits(max_memory))
    arrays = load_arrays(data, list(session.model.inputs))
    if len(arrays) != len(session.model.inputs):
        raise ValueError(f"{data} holds {len(arrays)} arrays; the model's inputs are {', '.join(session.model.inputs)}")
    result = session.run(dict(zip(session.model.inputs, arrays, strict=True)))
    np.savez(out, **result)
    for name, array in result.items():
        typer.echo(f"{name}: {array.dtype} {'x'.join(map(str, array.shape))}")
