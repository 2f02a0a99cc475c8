"""``pyqinfer pareto``: a grid of methods, bits and budgets on one network, as a table, a JSON file and a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyqinfer.cli.common import (
    FLOAT_MODEL_HELP,
    InputOption,
    OutputOption,
    Style,
    named_progress,
    parse_words,
    print_report,
    stderr,
    torch_reference,
)
from pyqinfer.cli.inputs import as_tensors, load_arrays, model_input_shapes, random_inputs
from pyqinfer.methods.registry import METHOD_WORDS

if TYPE_CHECKING:
    from pyqinfer.study.rows import Row


def command(
    model: str = typer.Argument(help=FLOAT_MODEL_HELP),
    input: list[str] = InputOption,
    evaluate: Path = typer.Option(..., "--eval", help="Labelled images: an .npz with x and y, or a folder with one folder per class."),
    calib: Path | None = typer.Option(None, "--calib", help="Calibration inputs (.npy or .npz). Default: the first images of --eval."),
    grid: str = typer.Option("8/8,4/8,4/4", "--grid", help="Weight bits/activation bits of uniform networks, comma list; t is ternary."),
    methods: str = typer.Option("ptq,zeroq", "--methods", help=f"{METHOD_WORDS}; comma list."),
    budgets: str = typer.Option(
        "", "--budgets", help="For methods that choose bits: bops=2%,size=0.2 (MiB),bits=4,latency=1.5 (ms),latency=70% (of 8/8's time)."
    ),
    isa: str = typer.Option("auto", "--isa", help="Instruction sets whose latency is measured, comma list."),
    threads: int = typer.Option(1, "--threads", help="Number of threads."),
    samples: int = typer.Option(512, "--samples", help="Calibration images."),
    batch_size: int = typer.Option(64, "--batch-size", help="Images per calibration batch."),
    torch_images: int | None = typer.Option(None, "--torch-images", help="Images that torch runs as well. Default: all."),
    out: Path = typer.Option(Path("pareto"), "--out", help="Folder for pareto.json, pareto.png and the networks; what is there is kept."),
    time: str = typer.Option("", "--time", help="Begin no further row after so long: 90s, 10m, 2h. Default: no bound."),
    output: Style = OutputOption,
) -> None:
    """Compare methods, bits and budgets on your network: accuracy, BOPs, file size and measured latency."""
    import torch

    from pyqinfer.study.grid import grid as make_grid
    from pyqinfer.study.labelled import ClassFolder, load_labelled
    from pyqinfer.study.pareto import Study, conditions, run_grid
    from pyqinfer.study.pareto_report import draw, study_report
    from pyqinfer.study.rows import write_json

    if batch_size < 1 or samples < 1:
        raise ValueError(f"expected --batch-size and --samples of at least 1, got {batch_size} and {samples}")
    limit = parse_duration(time) if time else None
    entries = make_grid(parse_words(grid), parse_words(methods), parse_words(budgets))
    module = torch_reference(model)
    shapes = model_input_shapes(module, input)
    data: Any = ClassFolder(evaluate, size=shapes[0][-1]) if evaluate.is_dir() else load_labelled(evaluate)
    if calib is None:
        stderr.print(f"no --calib: calibrating on the first images of {evaluate}", style="yellow")
        images = next(data.batches(samples))[0]
    else:
        images = load_arrays(calib)[0][:samples]
    examples = as_tensors(random_inputs(shapes, 0))
    with named_progress() as update:
        study = Study(
            model=module.eval(),
            examples=examples,
            calibration=list(torch.split(torch.from_numpy(images), batch_size)),
            data=data,
            folder=out,
            threads=threads,
            torch_images=torch_images,
            on_progress=update,
        )
        rows = run_grid(study, entries, parse_words(isa), limit, _tell)
    facts = {"model": model, "data": str(evaluate), **conditions(study)}
    report = study_report(f"{model} on {evaluate.name}: {facts['cpu']}", rows, facts)
    write_json(out / "pareto.json", {"facts": facts, "rows": [row.to_dict() for row in rows]})
    print_report(report, output)
    draw(model, rows, out / "pareto.png")
    stderr.print(f"\n{out}/pareto.json, {out}/pareto.png")


def _tell(row: Row, seconds: float, left: int) -> None:
    """Say how long a row took, from which one sees how long the others will."""
    stderr.print(f"{row.name}: {seconds:.0f} s; {left} rows left" + (f" ({row.status})" if not row.ok else ""), highlight=False)


def parse_duration(text: str) -> float:
    """``90s``, ``10m`` or ``2h`` to seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if match is None:
        raise ValueError(f"--time {text!r}: expected a number with its unit, such as 90s, 10m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
