"""What the sub-commands share: option types, model references, inputs, progress."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pyqinfer.model import Model, load
from pyqinfer.report import Report
from pyqinfer.session import RunOptions, Session

if TYPE_CHECKING:
    pass

stderr = Console(stderr=True)


class Style(str, Enum):
    """How a report is printed."""

    table = "table"
    md = "md"
    csv = "csv"
    json = "json"


MODEL_HELP = "module:callable, file.py:callable, file.onnx or file.pqi"
FLOAT_MODEL_HELP = "module:callable, file.py:callable or file.onnx"
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
    typer.echo(report.render(style.value).rstrip("\n"))


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
    if not separator and reference.endswith(".py"):
        raise ValueError(f"model {reference!r}: name the function or the module in it, such as {reference}:net")
    if not separator and Path(reference).suffix:
        from pyqinfer.frontend.files import load_model_file

        return load_model_file(reference, external_data)
    if not separator or not name or not attribute:
        raise ValueError(f"model {reference!r}: expected {MODEL_HELP}")
    module = _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    if not hasattr(module, attribute):
        raise ValueError(f"model {reference!r}: {name} has no {attribute!r}")
    found = getattr(module, attribute)
    if not callable(found) or hasattr(found, "state_dict"):
        return found
    try:
        return found()
    except Exception as error:
        if os.environ.get("PYQINFER_TRACEBACK"):
            raise
        line = (str(error).splitlines() or [""])[0]
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"model {reference!r}: {attribute}() raised {type(error).__name__}: {line} ({place.filename}, line {place.lineno})"
        ) from None


def torch_reference(reference: str) -> Any:
    """A torch module, or that of an ONNX file. Raises ValueError for a ``.pqi`` file, and for what is no module."""
    from torch import nn

    model = load_reference(reference)
    if isinstance(model, Model):
        raise ValueError(f"model {reference!r}: is converted already; give the torch model or the ONNX file that it was made of")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {reference!r}: expected a torch module, got {type(model).__name__}")
    return model


def open_session(
    model: Any,
    inputs: Sequence[NDArray[Any]],
    threads: int = 1,
    isa: str = "auto",
    algorithm: str = "auto",
    fip: str = "auto",
    limits: RunOptions | None = None,
) -> Session:
    """A session of what :func:`load_reference` gave; a torch module is converted for the inputs."""
    if not isinstance(model, Model):
        from pyqinfer.conversion import convert

        model = convert(model, example_inputs=tuple(inputs), samples=0, check=False)
    return Session(model, threads=threads, isa=isa, algorithm=algorithm, fip=fip, run_options=limits)


def output_file(path: Path, suffix: str = ".pqi") -> Path:
    """A file that is about to be made, checked before the work begins that it is for.

    Raises:
        ValueError: another suffix. FileNotFoundError: no such folder.
    """
    if path.suffix != suffix:
        raise ValueError(f"--out {path}: expected a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}")
    return path


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


@contextmanager
def progress(text: str) -> Iterator[Any]:
    """A progress bar on stderr; yields ``update(done, total)``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


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
