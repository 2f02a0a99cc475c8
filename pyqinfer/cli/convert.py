"""``pyqinfer convert``: a torch model (float or PT2E-quantized) to a ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pyqinfer.cli.common import FLOAT_MODEL_HELP, InputOption, OutputOption, Style, load_reference, output_file, print_report
from pyqinfer.cli.inputs import example_tensors


def command(
    model: str = typer.Argument(help=FLOAT_MODEL_HELP),
    out: Path | None = typer.Option(None, "--out", help="The file to write (.pqi)."),
    input: list[str] = InputOption,
    fallback: str = typer.Option("float", "--fallback", help="float: layers that are not quantized run in float; error: refuse them."),
    static_batch: bool = typer.Option(False, "--static-batch", help="Fix the batch to that of --input."),
    dynamic_size: bool = typer.Option(False, "--dynamic-size", help="Any height and width at run time."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Write nothing: only show what runs in integers, and what stops the rest."),
    external_data: bool = typer.Option(False, "--external-data", help="Read an ONNX file's constants from other files below its folder."),
    no_check: bool = typer.Option(False, "--no-check", help="Leave out the comparison of the converted model with the torch model."),
    samples: int = typer.Option(1, "--samples", help="Stored inputs and outputs for `pyqinfer verify`."),
    image_mean: str = typer.Option(
        "", "--image-mean", help="Take the first input as uint8 NHWC images: the model's mean, e.g. 0.485,0.456,0.406."
    ),
    image_std: str = typer.Option("", "--image-std", help="The model's standard deviation, with --image-mean, e.g. 0.229,0.224,0.225."),
    seed: int = typer.Option(0, "--seed", help="Seed of the example inputs."),
    output: Style = OutputOption,
) -> None:
    """Convert a torch model and show its layers."""

    from pyqinfer.conversion import convert
    from pyqinfer.images import ImageInput

    if out is None and not dry_run:
        raise ValueError("--out: say which file to write, or --dry-run")
    if out is not None:
        output_file(out)
    module = load_reference(model, external_data)
    examples = example_tensors(module, input, seed)
    options: dict[str, Any] = {"dynamic_batch": not static_batch, "dynamic_size": dynamic_size, "fallback": fallback}
    if image_mean or image_std:
        image = ImageInput(*(_numbers(text) or (default,) for text, default in ((image_mean, 0.0), (image_std, 1.0))))
        first = next(iter(convert(module, example_inputs=examples, samples=0, check=False, **options).inputs))
        options["image_inputs"] = {first: image}
    if dry_run:
        samples, no_check = 0, True
    converted = convert(module, example_inputs=examples, samples=samples, check=not no_check, **options)
    if out is not None and not dry_run:
        converted.save(out)
    shapes = {name: tuple(x.shape) for name, x in zip(converted.inputs, examples, strict=True)}
    for name in options.get("image_inputs", {}):
        n, channels, height, width = shapes[name]
        shapes[name] = (n, height, width, channels)
    print_report(converted.summary(shapes), output)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in text.split(",") if item)
    except ValueError:
        raise typer.BadParameter(f"expected numbers such as 0.485,0.456,0.406, got {text!r}") from None
