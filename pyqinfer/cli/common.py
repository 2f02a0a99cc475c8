"""What the sub-commands share: option types, model references, inputs, progress."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pyqinfer.model import Model, load
from pyqinfer.report import Report
from pyqinfer.session import RunOptions

if TYPE_CHECKING:
    from torch import Tensor

stderr = Console(stderr=True)


class Style(str, Enum):
    """How a report is printed."""

    table = "table"
    md = "md"
    csv = "csv"
    json = "json"


MODEL_HELP = "module:callable, file.py:callable, file.onnx or file.pqi"
OutputOption = typer.Option(Style.table, "--output", "-o", help="How to print the result.")
IsaOption = typer.Option("auto", "--isa", help="Instruction set: auto, or one that `pyqinfer doctor` lists.")
AlgorithmOption = typer.Option(
    "auto", "--algorithm", help="How layers on codes are computed: auto, direct, winograd, ... (results do not depend on it)."
)
FipOption = typer.Option("auto", "--fip", help="May auto choose inner products: auto (by CPU family), on or off.")
MaxMemoryOption = typer.Option(
    None, "--max-memory", min=1, help="MiB that a run may take. Default: three quarters of the machine's memory."
)
InputOption = typer.Option(None, "--input", help="Shape of an input, e.g. 1x3x224x224; give it once per input. Default: from the model.")


def run_limits(max_memory: int | None) -> RunOptions:
    """Limits of each run: a file may ask for any amount of memory, so the tools have a bound where the library has none.

    Args:
        max_memory: MiB, or None for three quarters of the machine's memory.
    """
    machine = os.sysconf("SC_PHYS_PAGES") // 4 * 3 * os.sysconf("SC_PAGE_SIZE")
    return RunOptions(max_memory=machine if max_memory is None else max_memory << 20)


def print_report(report: Report, style: Style) -> None:
    """Print a result on stdout."""
    typer.echo(report.render(style.value))


def parse_shape(text: str) -> tuple[int, ...]:
    """``1x3x224x224`` to a tuple. Raises ValueError."""
    parts = text.lower().split("x")
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"shape {text!r}: expected numbers joined by x, e.g. 1x3x224x224")
    return tuple(int(part) for part in parts)


def parse_list(text: str, option: str) -> list[int]:
    """``1,2,4`` to numbers. Raises ValueError naming the option."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"{option} {text!r}: expected numbers joined by commas, e.g. 1,2,4")
    return [int(part) for part in parts]


def parse_words(text: str) -> list[str]:
    """``a, b`` to the words between commas; none for an empty text."""
    return [word.strip() for word in text.split(",") if word.strip()]


def load_reference(reference: str, external_data: bool = False) -> Any:
    """A ``.pqi`` file to a Model, an ONNX file to a module, or the object that ``module:callable`` returns.

    Raises ValueError for anything else, UnsupportedError for files of other kinds: those that can run code are never opened.
    """
    if reference.endswith(".pqi"):
        return load(reference)
    name, separator, attribute = reference.rpartition(":")
    if not separator and Path(reference).suffix:
        from pyqinfer.frontend.files import load_model_file

        return load_model_file(reference, external_data)
    if not separator or not name or not attribute:
        raise ValueError(f"model {reference!r}: expected {MODEL_HELP}")
    module = _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    if not hasattr(module, attribute):
        raise ValueError(f"model {reference!r}: {name} has no {attribute!r}")
    found = getattr(module, attribute)
    return found() if callable(found) and not hasattr(found, "state_dict") else found


def load_pqi(reference: str) -> Model:
    """A ``.pqi`` file. Raises ValueError if the reference is something else."""
    if not reference.endswith(".pqi"):
        raise ValueError(f"model {reference!r}: expected a .pqi file; make one with `pyqinfer convert` or `pyqinfer quantize`")
    return load(reference)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def random_inputs(shapes: list[tuple[int, ...]], seed: int, limits: RunOptions | None = None) -> list[NDArray[np.float32]]:
    """Normally distributed float32 inputs. Raises MemoryError if they alone take more than the runs may that they are for."""
    total = sum(4 * math.prod(shape) for shape in shapes)
    most = (limits or run_limits(None)).max_memory
    if most is not None and total > most:
        raise MemoryError(f"inputs of the shapes {', '.join(map(str, shapes))} take {total} bytes, more than --max-memory ({most} bytes)")
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def model_input_shapes(model: Any, texts: list[str] | None) -> list[tuple[int, ...]]:
    """Shapes from ``--input``, else the model's own with batch 1."""
    given = [parse_shape(text) for text in texts or []]
    if isinstance(model, Model):
        named = dict(zip(model.inputs, given, strict=False))
        return list(model.input_shapes(named).values())
    if not given:
        raise ValueError("a torch model needs --input SHAPE, e.g. --input 1x3x224x224")
    return given


def example_tensors(module: Any, texts: list[str] | None, seed: int) -> tuple[Tensor, ...]:
    """Random inputs of the shapes of ``--input``; those of an ONNX file or a Model may be left out."""
    from pyqinfer.frontend.sources.onnx import is_onnx

    if is_onnx(module):
        made: tuple[Tensor, ...] = module.example_inputs(seed, [parse_shape(text) for text in texts or []])
        return made
    return as_tensors(random_inputs(model_input_shapes(module, texts), seed))


def load_arrays(path: Path, names: Sequence[str] = ()) -> list[NDArray[Any]]:
    """Arrays of a ``.npy`` or ``.npz`` file, one for each input; pickled objects are refused.

    Args:
        path: the file. Arrays of an ``.npz`` that are called like the inputs are taken by name, others in the order in which the file has
            them, numbered ones (``arr_0``, ``arr_1``, as ``np.savez`` calls them) by their numbers.
        names: what the inputs are called, as far as that is known.

    Raises:
        ValueError: some arrays are called like inputs, and others are missing.
    """
    data = np.load(path, allow_pickle=False)
    if isinstance(data, np.ndarray):
        return [data]
    if set(names) & set(data.files):
        missing = [name for name in names if name not in data.files]
        if missing:
            raise ValueError(f"{path}: has no array {', '.join(missing)} among {', '.join(data.files)}")
        return [data[name] for name in names]
    numbers = {name: int(match[1]) for name in data.files if (match := re.fullmatch(r"\D*(\d+)", name))}
    one_stem = len({name.rstrip("0123456789") for name in data.files}) == 1
    numbered = one_stem and len(numbers) == len(data.files)
    return [data[name] for name in (sorted(numbers, key=numbers.__getitem__) if numbered else data.files)]


@contextmanager
def progress(text: str) -> Iterator[Any]:
    """A progress bar on stderr; yields ``update(done, total)``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def as_tensors(arrays: Sequence[NDArray[Any]]) -> tuple[Tensor, ...]:
    """The arrays as torch tensors that share their memory."""
    import torch

    return tuple(torch.from_numpy(array) for array in arrays)


@contextmanager
def named_progress(text: str = "") -> Iterator[Any]:
    """A progress bar on stderr for several steps; yields ``update(step, done, total)``. ``text`` stands there before the first step.

    Drawn at updates only: a thread that draws all the time would take part in the measurement.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(text, total=None)

        def update(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)
            bar.refresh()

        yield update
