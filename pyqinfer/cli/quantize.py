"""``pyqinfer quantize``: quantize a torch model and write the ``.pqi`` file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.budget import Budget
from pyqinfer.cli.common import FLOAT_MODEL_HELP, InputOption, OutputOption, Style, output_file, print_report, stderr, torch_reference
from pyqinfer.cli.inputs import as_tensors, example_tensors, load_arrays, random_inputs
from pyqinfer.methods.registry import METHODS, find_method
from pyqinfer.model import Model, Shapes

if TYPE_CHECKING:
    from torch import Tensor

# The names in pyqinfer.quantization.observers, which this module does not import because it loads torch (a test compares them).
OBSERVER_NAMES = ("mse", "minmax", "average", "percentile99.9", "percentile99.99", "best")
_NOISE_SAMPLES = 32
_DATA, _BITS, _BUDGET = "Data", "Bits", "Budget, for methods that choose bits per layer; several hold at once"
_METHOD_HELP = "; ".join(f"{row.word}: {row.summary}" for row in METHODS if not row.trains) + "."
# Field of pq.Budget -> the option that sets it.
BUDGET_OPTIONS = {"bops": "--budget-bops", "size_mb": "--budget-mb", "avg_weight_bits": "--budget-bits", "latency_ms": "--budget-ms"}
# Options that configure the method: parameter of this command and of the method's from_options -> option.
_METHOD_OPTIONS = {"bits": "--bits", "bits_in": "--bits-in", "observer": "--observer", "candidates": "--candidates"}


def command(
    context: typer.Context,
    model: str = typer.Argument(help=FLOAT_MODEL_HELP),
    out: Path = typer.Option(..., "--out", help="The file to write (.pqi)."),
    input: list[str] = InputOption,
    method: str = typer.Option("ptq", "--method", help=_METHOD_HELP),
    dynamic_size: bool = typer.Option(False, "--dynamic-size", help="Any height and width at run time."),
    output: Style = OutputOption,
    calib: Path | None = typer.Option(
        None,
        "--calib",
        help="Calibration inputs (.npy or .npz, first dimension = samples). Default: noise, or what the method makes itself.",
        rich_help_panel=_DATA,
    ),
    batch_size: int = typer.Option(32, "--batch-size", help="Samples per calibration batch.", rich_help_panel=_DATA),
    seed: int = typer.Option(0, "--seed", help="Seed of noise in place of --calib, or of a method's images.", rich_help_panel=_DATA),
    observer: str = typer.Option(
        "mse", "--observer", help=f"How activation ranges are found: {', '.join(OBSERVER_NAMES)}.", rich_help_panel=_DATA
    ),
    bits: str = typer.Option("8/8", "--bits", help="Bits of every layer, weights/activations: 8/8, 4/8, t/8 ...", rich_help_panel=_BITS),
    keep: list[str] = typer.Option(
        [], "--keep", help="Layers that keep other bits: 'fc=8/8', 'stem.*=float'; repeatable.", rich_help_panel=_BITS
    ),
    bits_in: Path | None = typer.Option(
        None, "--bits-in", help="Bits of every layer from a JSON file (of --bits-out, or by hand).", rich_help_panel=_BITS
    ),
    bits_out: Path | None = typer.Option(None, "--bits-out", help="Write the bits of every layer, to edit by hand.", rich_help_panel=_BITS),
    candidates: str = typer.Option(
        "", "--candidates", help="Bits that a layer may take, e.g. 8/8,4/8,4/4. Default: by the budget.", rich_help_panel=_BUDGET
    ),
    budget_bops: float | None = typer.Option(
        None, BUDGET_OPTIONS["bops"], help="Bit operations, as a fraction of the float network's (8/8 is 0.0625).", rich_help_panel=_BUDGET
    ),
    budget_mb: float | None = typer.Option(None, BUDGET_OPTIONS["size_mb"], help="MiB of weights.", rich_help_panel=_BUDGET),
    budget_bits: float | None = typer.Option(
        None, BUDGET_OPTIONS["avg_weight_bits"], help="Bits per weight, on average.", rich_help_panel=_BUDGET
    ),
    budget_ms: float | None = typer.Option(
        None, BUDGET_OPTIONS["latency_ms"], help="Milliseconds of a run, by layers measured on this machine.", rich_help_panel=_BUDGET
    ),
    threads: int = typer.Option(1, "--threads", help="Threads of the runs that --budget-ms is about.", rich_help_panel=_BUDGET),
    isa: str = typer.Option("auto", "--isa", help="Instruction set of the runs that --budget-ms is about.", rich_help_panel=_BUDGET),
) -> None:
    """Quantize a torch model, convert it and show its layers."""
    from pyqinfer.arguments import input_names
    from pyqinfer.conversion import convert
    from pyqinfer.quantization import quantize

    output_file(out)
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {batch_size}")
    given_limits = limits_of(budget_bops, budget_mb, budget_bits, budget_ms)
    budget = Budget(**given_limits, threads=threads, isa=isa) if given_limits else None
    if budget is not None and bits_in is not None:
        raise ValueError("--bits-in gives the bits, a budget chooses them: use one of the two")
    given = [name for name in _METHOD_OPTIONS if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"]
    options = {
        "bits": parse_bits(bits),
        "bits_in": None if bits_in is None else BitConfig.load(bits_in),
        "observer": observer,
        "candidates": tuple(candidates.split(",")) if candidates else None,
        "seed": seed,
    }
    configuration = _configuration(method, options, given, budget)
    module = torch_reference(model)
    examples = example_tensors(module, input, seed)
    needed, names = "calibration" in configuration.needs, input_names(module, len(examples))
    quantized = quantize(
        module,
        configuration,
        example_inputs=examples,
        calibration=_calibration(calib, batch_size, examples, seed, needed, names),
        keep=parse_keep(keep),
        budget=budget,
        dynamic_size=dynamic_size,
    )
    if (allocation := quantized.meta.get("allocation")) is not None:
        # A program that reads JSON or CSV wants one document on stdout.
        typer.echo(allocation.report.render(output.value) + "\n", err=output in (Style.json, Style.csv))
    converted = convert(quantized, example_inputs=examples, dynamic_size=dynamic_size)
    shapes = {name: tuple(x.shape) for name, x in zip(converted.inputs, examples, strict=True)}
    if bits_out is not None:
        (allocation if allocation is not None else _bits_of(converted, shapes)).save(bits_out)
    converted.save(out)
    print_report(converted.summary(shapes), output)


def limits_of(*values: float | None) -> dict[str, Any]:
    """Fields of pq.Budget, from what its options hold, in the order of BUDGET_OPTIONS; None: not given."""
    return {name: value for name, value in zip(BUDGET_OPTIONS, values, strict=True) if value is not None}


def _configuration(word: str, options: Mapping[str, Any], given: Sequence[str], budget: Budget | None) -> Any:
    """The method's configuration. Raises ValueError for options in ``given`` that it has no use for, or a budget that it lacks."""
    row = find_method(word)
    if row.trains:
        raise ValueError(f"--method {word} trains on labelled images: use `pyqinfer train`")
    method = row.load()
    budgets = " or ".join(BUDGET_OPTIONS.values())
    if budget is not None and "budget" not in method.reads:
        choosing = " or ".join(row.word for row in METHODS if not row.trains and "budget" in row.load().reads)
        raise ValueError(f"--method {word} has fixed bits and takes no budget: use {choosing}, or --bits-in")
    if budget is None and "budget" in method.needs:
        raise ValueError(f"--method {word} chooses bits under a budget: give {budgets}")
    if options["candidates"] and budget is None:
        raise ValueError(f"--candidates are for a budget: give {budgets}")
    taken = signature(method.from_options).parameters
    unused = [_METHOD_OPTIONS[name] for name in given if name not in taken]
    if unused:
        raise ValueError(f"--method {word} has no use for {', '.join(unused)}")
    return method.from_options(**{name: options[name] for name in taken})


def parse_keep(items: list[str]) -> dict[str, str]:
    """``fc=8/8`` and the like to bits by layer. Raises ValueError for anything else."""
    pairs = [item.partition("=") for item in items]
    bad = [item for item, (name, sep, value) in zip(items, pairs, strict=True) if not (name and sep and value)]
    if bad:
        raise ValueError(f"--keep {bad[0]!r}: expected LAYER=BITS, e.g. 'fc=8/8' or 'stem.*=float'")
    return {name: value for name, _, value in pairs}


def _calibration(
    path: Path | None, batch_size: int, examples: tuple[Tensor, ...], seed: int, needed: bool, names: Sequence[str]
) -> list[tuple[Tensor, ...]] | None:
    if path is None and not needed:
        return None
    if path is None:
        stderr.print("no --calib: calibrating on noise; the accuracy will be poor", style="yellow")
        shapes = [(_NOISE_SAMPLES, *x.shape[1:]) if len(x) == 1 else tuple(x.shape) for x in examples]
        tensors = as_tensors(random_inputs(shapes, seed))
    else:
        tensors = as_tensors(load_arrays(path, names))
    count = len(tensors[0])
    return [tuple(t[i : i + batch_size] for t in tensors) for i in range(0, count, batch_size)]


def _bits_of(model: Model, shapes: Shapes) -> BitConfig:
    """The bits with which each layer of a converted model runs."""
    layers = [cost for cost in model.layer_costs(shapes) if cost.macs]
    return BitConfig({cost.name: f"{cost.weight_bits}/{cost.act_bits}" if cost.integer else "float" for cost in layers})
