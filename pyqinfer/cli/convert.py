"""``pyqinfer convert``: a torch model (float or PT2E-quantized) to a ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    InputOption,
    OutputOption,
    Style,
    load_reference,
    model_input_shapes,
    print_report,
    random_inputs,
)


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    out: Path = typer.Option(..., "--out", help="The file to write (.pqi)."),
    input: list[str] = InputOption,
    fallback: str = typer.Option("float", "--fallback", help="float: layers that are not quantized run in float; error: refuse them."),
    static_batch: bool = typer.Option(False, "--static-batch", help="Fix the batch to that of --input."),
    samples: int = typer.Option(1, "--samples", help="Stored inputs and outputs for `pyqinfer verify`."),
    seed: int = typer.Option(0, "--seed", help="Of the example inputs."),
    output: Style = OutputOption,
) -> None:
    """Convert a torch model and show its layers."""
    import torch

    from pyqinfer.conversion import convert

    module = load_reference(model)
    examples = tuple(torch.from_numpy(x) for x in random_inputs(model_input_shapes(module, input), seed))
    converted = convert(module, example_inputs=examples, dynamic_batch=not static_batch, fallback=fallback, samples=samples)
    converted.save(out)
    shapes = {name: tuple(x.shape) for name, x in zip(converted.inputs, examples, strict=True)}
    print_report(converted.summary(shapes), output)
