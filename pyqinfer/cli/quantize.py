"""``pyqinfer quantize``: quantize a torch model and write the ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.budget import Budget
from pyqinfer.cli.common import (
    MODEL_HELP,
    InputOption,
    OutputOption,
    Style,
    as_tensors,
    load_arrays,
    load_reference,
    model_input_shapes,
    print_report,
    random_inputs,
    stderr,
)
from pyqinfer.model import Model, Shapes

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = ("ptq", "zeroq", "ompq")
# Those of pyqinfer.quantization.observers, which loads torch.
OBSERVER_NAMES = ("mse", "minmax", "average", "percentile99.9", "percentile99.99", "best")
_NOISE_SAMPLES = 32
_DATA, _BITS, _BUDGET = "Data", "Bits", "Budget: the method chooses bits per layer (zeroq, ompq); several hold at once"


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    out: Path = typer.Option(..., "--out", help="The file to write (.pqi)."),
    input: list[str] = InputOption,
    method: str = typer.Option("ptq", "--method", help="ptq: post-training; zeroq: without data; ompq: bits by orthogonality of layers."),
    output: Style = OutputOption,
    calib: Path | None = typer.Option(
        None,
        "--calib",
        help="Calibration inputs (.npy or .npz, first dimension = samples). Default: noise; zeroq makes its own.",
        rich_help_panel=_DATA,
    ),
    batch_size: int = typer.Option(32, "--batch-size", help="Samples per calibration batch.", rich_help_panel=_DATA),
    seed: int = typer.Option(0, "--seed", help="Of the noise, where there is no --calib, and of zeroq's images.", rich_help_panel=_DATA),
    observer: str = typer.Option(
        "mse", "--observer", help=f"How activation ranges are found: {', '.join(OBSERVER_NAMES)}.", rich_help_panel=_DATA
    ),
    bits: str = typer.Option("8/8", "--bits", help="Of every layer, weights/activations: 8/8, 4/8, t/8 ...", rich_help_panel=_BITS),
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
        None, "--budget-bops", help="Bit operations, as a fraction of the float network's (8/8 is 0.0625).", rich_help_panel=_BUDGET
    ),
    budget_mb: float | None = typer.Option(None, "--budget-mb", help="MiB of weights.", rich_help_panel=_BUDGET),
    budget_bits: float | None = typer.Option(None, "--budget-bits", help="Bits per weight, on average.", rich_help_panel=_BUDGET),
    budget_ms: float | None = typer.Option(
        None, "--budget-ms", help="Milliseconds of a run, by layers measured on this machine.", rich_help_panel=_BUDGET
    ),
    threads: int = typer.Option(1, "--threads", help="Of the runs that --budget-ms is about.", rich_help_panel=_BUDGET),
    isa: str = typer.Option("auto", "--isa", help="Instruction set of those runs.", rich_help_panel=_BUDGET),
) -> None:
    """Quantize a torch model, convert it and show its layers."""
    from pyqinfer.conversion import convert
    from pyqinfer.quantization import quantize

    if batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {batch_size}")
    budget = _budget(budget_bops, budget_mb, budget_bits, budget_ms, threads, isa)
    if budget is not None and bits_in is not None:
        raise ValueError("--bits-in gives the bits, a budget chooses them: use one of the two")
    configuration = _method(method, bits, observer, None if bits_in is None else BitConfig.load(bits_in), candidates, budget, seed)
    module = load_reference(model)
    examples = as_tensors(random_inputs(model_input_shapes(module, input), seed))
    quantized = quantize(
        module,
        configuration,
        example_inputs=examples,
        calibration=_calibration(calib, batch_size, examples, seed, method),
        keep=_keep(keep),
        budget=budget,
    )
    if (allocation := quantized.meta.get("allocation")) is not None:
        # A machine that reads the result wants one document on stdout.
        typer.echo(allocation.report.render(output.value) + "\n", err=output in (Style.json, Style.csv))
    converted = convert(quantized, example_inputs=examples)
    shapes = {name: tuple(x.shape) for name, x in zip(converted.inputs, examples, strict=True)}
    if bits_out is not None:
        (allocation if allocation is not None else _bits_of(converted, shapes)).save(bits_out)
    converted.save(out)
    print_report(converted.summary(shapes), output)


def _budget(bops: float | None, mb: float | None, bits: float | None, ms: float | None, threads: int, isa: str) -> Budget | None:
    if bops is mb is bits is ms is None:
        return None
    return Budget(bops=bops, size_mb=mb, avg_weight_bits=bits, latency_ms=ms, threads=threads, isa=isa)


def _method(name: str, bits: str, observer: str, bits_in: BitConfig | None, candidates: str, budget: Budget | None, seed: int) -> Any:
    """The method's configuration. Raises ValueError for options that it has no use for."""
    from pyqinfer.methods import OMPQ, PTQ, ZeroQ
    from pyqinfer.quantization.distill import Distillation

    if name not in _METHODS:
        raise ValueError(f"--method {name!r}: expected {', '.join(_METHODS)}")
    if name == "ptq" and budget is not None:
        raise ValueError("--method ptq has fixed bits and takes no budget: use zeroq or ompq, or --bits-in")
    if name == "ompq" and budget is None:
        raise ValueError("--method ompq chooses bits under a budget: give --budget-bops, --budget-mb, --budget-bits or --budget-ms")
    if candidates and budget is None:
        raise ValueError("--candidates are for a budget: give --budget-bops, --budget-mb, --budget-bits or --budget-ms")
    choices = tuple(candidates.split(",")) if candidates else None
    uniform = parse_bits(bits)
    if name == "ompq":
        return OMPQ(observer=observer, candidates=choices)
    if name == "zeroq":
        return ZeroQ(
            weight_bits=uniform.weight,
            act_bits=uniform.act,
            observer=observer,
            bits=bits_in,
            candidates=choices,
            distillation=Distillation(seed=seed),
        )
    return PTQ(weight_bits=uniform.weight, act_bits=uniform.act, observer=observer, bits=bits_in)


def _keep(items: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    bad = [item for item, (name, sep, value) in zip(items, pairs, strict=True) if not (name and sep and value)]
    if bad:
        raise ValueError(f"--keep {bad[0]!r}: expected LAYER=BITS, e.g. 'fc=8/8' or 'stem.*=float'")
    return {name: value for name, _, value in pairs}


def _calibration(
    path: Path | None, batch_size: int, examples: tuple[Tensor, ...], seed: int, method: str
) -> list[tuple[Tensor, ...]] | None:
    if path is None and method == "zeroq":
        return None
    if path is None:
        stderr.print("no --calib: calibrating on noise; the accuracy will be poor", style="yellow")
        shapes = [(_NOISE_SAMPLES, *x.shape[1:]) if len(x) == 1 else tuple(x.shape) for x in examples]
        tensors = as_tensors(random_inputs(shapes, seed))
    else:
        tensors = as_tensors(load_arrays(path))
    count = len(tensors[0])
    return [tuple(t[i : i + batch_size] for t in tensors) for i in range(0, count, batch_size)]


def _bits_of(model: Model, shapes: Shapes) -> BitConfig:
    """The bits that run."""
    layers = [cost for cost in model.layer_costs(shapes) if cost.macs]
    return BitConfig({cost.name: f"{cost.weight_bits}/{cost.act_bits}" if cost.integer else "float" for cost in layers})
