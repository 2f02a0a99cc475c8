"""``pyqinfer train``: a method that trains, on labelled images, to a ``.pqi`` file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.budget import Budget
from pyqinfer.cli.common import (
    FLOAT_MODEL_HELP,
    InputOption,
    OutputOption,
    Style,
    named_progress,
    output_file,
    print_report,
    stderr,
    torch_reference,
)
from pyqinfer.cli.inputs import model_input_shapes
from pyqinfer.cli.quantize import BUDGET_OPTIONS, limits_of, parse_keep
from pyqinfer.methods.registry import METHODS, find_method

_WORDS = ", ".join(row.word for row in METHODS if row.trains)
_HELP = "; ".join(f"{row.word}: {row.summary}" for row in METHODS if row.trains) + "."
_DATA, _BITS, _BUDGET, _TRAINING = "Data", "Bits", "Budget, for saq, which then chooses bits per layer by --val", "Training"
# Options that some methods have no use for: parameter of this command, which is a field of the methods' classes -> option.
_METHOD_OPTIONS = {"rho": "--rho", "sparsity": "--sparsity"}


def command(
    model: str = typer.Argument(help=FLOAT_MODEL_HELP),
    out: Path = typer.Option(..., "--out", help="The file to write (.pqi)."),
    data: Path = typer.Option(
        ...,
        "--data",
        help="Labelled images: an .npz with x and y, a folder with one folder per class, or one with train and val.",
        rich_help_panel=_DATA,
    ),
    input: list[str] = InputOption,
    method: str = typer.Option("qat", "--method", help=_HELP),
    output: Style = OutputOption,
    val: Path | None = typer.Option(None, "--val", help="Images to look at after each epoch and in the engine.", rich_help_panel=_DATA),
    batch_size: int = typer.Option(64, "--batch-size", help="Images per batch.", rich_help_panel=_DATA),
    shift: int = typer.Option(0, "--shift", help="Move training images by up to so many pixels at random.", rich_help_panel=_DATA),
    flip: bool = typer.Option(False, "--flip", help="Mirror one in two training images.", rich_help_panel=_DATA),
    bits: str | None = typer.Option(
        None, "--bits", help="Bits of every layer, weights/activations: 8/8, 4/4, t/8 ... Default: by method.", rich_help_panel=_BITS
    ),
    keep: list[str] = typer.Option([], "--keep", help="Layers that keep other bits: 'fc=8/8'; repeatable.", rich_help_panel=_BITS),
    bits_in: Path | None = typer.Option(
        None, "--bits-in", help="Bits of layers from a JSON file (of `pyqinfer quantize --bits-out`, or by hand).", rich_help_panel=_BITS
    ),
    budget_bops: float | None = typer.Option(
        None, BUDGET_OPTIONS["bops"], help="Bit operations, as a fraction of the float network's (4/4 is 0.0156).", rich_help_panel=_BUDGET
    ),
    budget_mb: float | None = typer.Option(None, BUDGET_OPTIONS["size_mb"], help="MiB of weights.", rich_help_panel=_BUDGET),
    budget_bits: float | None = typer.Option(
        None, BUDGET_OPTIONS["avg_weight_bits"], help="Bits per weight, on average.", rich_help_panel=_BUDGET
    ),
    budget_ms: float | None = typer.Option(
        None, BUDGET_OPTIONS["latency_ms"], help="Milliseconds of a run, one thread, by layers measured here.", rich_help_panel=_BUDGET
    ),
    epochs: int = typer.Option(10, "--epochs", help="Passes over the images.", rich_help_panel=_TRAINING),
    lr: float | None = typer.Option(
        None, "--lr", help="First learning rate; it falls to 0 along a cosine. Default: by method.", rich_help_panel=_TRAINING
    ),
    weight_decay: float | None = typer.Option(None, "--weight-decay", help="Of weights. Default: by method.", rich_help_panel=_TRAINING),
    freeze_bn: float | None = typer.Option(
        None, "--freeze-bn", help="Share of the training after which BatchNorms are frozen. Default: by method.", rich_help_panel=_TRAINING
    ),
    distill: float = typer.Option(0.0, "--distill", help="Share of the loss that imitates the float model.", rich_help_panel=_TRAINING),
    search_epochs: int = typer.Option(10, "--search-epochs", help="saq: epochs in which bits are sought.", rich_help_panel=_BUDGET),
    sharpness: Path | None = typer.Option(
        None, "--sharpness", help="saq: draw the loss around the network, before and after (.png).", rich_help_panel=_TRAINING
    ),
    rho: float | None = typer.Option(None, "--rho", help="saq: norm of the perturbation. Default: 0.1.", rich_help_panel=_TRAINING),
    sparsity: float | None = typer.Option(
        None, "--sparsity", help="pruned_ternary: share of zeros. Default: 0.88.", rich_help_panel=_TRAINING
    ),
    seed: int = typer.Option(0, "--seed", help="Decides all that is drawn.", rich_help_panel=_TRAINING),
    device: str = typer.Option("auto", "--device", help="cpu, cuda ...; auto: CUDA where there is one.", rich_help_panel=_TRAINING),
    checkpoint: Path | None = typer.Option(
        None, "--checkpoint", help="Written after each epoch; a run that finds it goes on from there.", rich_help_panel=_TRAINING
    ),
) -> None:
    """Train a torch model for low precision, convert it and show how the training went."""
    import torch

    from pyqinfer.conversion import convert
    from pyqinfer.quantization import quantize
    from pyqinfer.study.training_data import Augmentation, load_splits, training_batches, validation_batches
    from pyqinfer.train.generator import Search

    output_file(out)
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {batch_size}")
    wanted = None if bits is None else parse_bits(bits)
    options: dict[str, Any] = {
        "weight_bits": None if wanted is None else wanted.weight,
        "act_bits": None if wanted is None else wanted.act,
        "bits": None if bits_in is None else BitConfig.load(bits_in),
        "epochs": epochs,
        "lr": lr,
        "weight_decay": weight_decay,
        "freeze_bn": freeze_bn,
        "distill": distill,
        "seed": seed,
        "device": device,
        "checkpoint": checkpoint,
        "rho": rho,
        "sparsity": sparsity,
    }
    given_limits = limits_of(budget_bops, budget_mb, budget_bits, budget_ms)
    if given_limits:
        options["search"] = Search(epochs=search_epochs, warmup=search_epochs // 3)
    configuration = _configuration(method, options)
    module = torch_reference(model)
    shapes = model_input_shapes(module, input)
    examples = tuple(torch.zeros(shape) for shape in shapes)
    images, seen = load_splits(data, val, shapes[0][-1])
    if sharpness is not None and (method != "saq" or seen is None):
        raise ValueError("--sharpness is measured by --method saq on --val")
    quantized = quantize(
        module,
        configuration,
        example_inputs=examples,
        keep=parse_keep(keep),
        budget=Budget(**given_limits) if given_limits else None,
        train=training_batches(images, batch_size, Augmentation(shift, flip)),
        val=None if seen is None else validation_batches(seen, batch_size),
    )
    converted = convert(quantized, example_inputs=examples)
    converted.save(out)
    if (allocation := quantized.meta.get("allocation")) is not None and hasattr(allocation, "report"):
        typer.echo(allocation.report.render(output.value) + "\n", err=output in (Style.json, Style.csv))
    print_report(quantized.meta["training"], output)
    if (found := quantized.meta.get("sharpness")) is not None:
        typer.echo("\n" + found.render(output.value), err=output in (Style.json, Style.csv))
        if sharpness is not None:
            found.plot(sharpness)
    if seen is not None:
        _compare(module, converted, quantized, seen)


def _configuration(word: str, options: Mapping[str, Any]) -> Any:
    """The method's configuration; options that are None are left to it.

    Raises ValueError for a method that trains nothing, and for options that it has no use for.
    """
    row = find_method(word)
    if not row.trains:
        raise ValueError(f"--method {word} needs no training: use `pyqinfer quantize`; methods that train are {_WORDS}")
    method = row.load()
    taken = {field.name for field in fields(method)}
    unused = [option for name, option in _METHOD_OPTIONS.items() if options[name] is not None and name not in taken]
    if unused:
        raise ValueError(f"--method {word} has no use for {', '.join(unused)}")
    return method(**{name: value for name, value in options.items() if name in taken and value is not None})


def _compare(module: Any, converted: Any, quantized: Any, seen: Any) -> None:
    """Top-1 of the float model in torch and of the trained one in the engine, on stderr."""
    from pyqinfer.session import Session
    from pyqinfer.study.evaluate import evaluate

    with named_progress("measuring accuracy") as update:
        result = evaluate(Session(converted), quantized, seen, on_progress=lambda done, total: update("in the engine", done, total))
    text = f"in the engine {result.top1:.2f} % of {result.images:,} images"
    stderr.print(f"top-1 {text}; torch with exact sums gives {result.exact_agreement:.2f} % of them the same class")
