"""``pyqinfer quantize``: quantize a torch model and write the ``.pqi`` file."""

from __future__ import annotations

from pathlib import Path

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    InputOption,
    OutputOption,
    Style,
    load_arrays,
    load_reference,
    model_input_shapes,
    print_report,
    random_inputs,
    stderr,
)


def command(
    model: str = typer.Argument(help=MODEL_HELP),
    out: Path = typer.Option(..., "--out", help="The file to write (.pqi)."),
    input: list[str] = InputOption,
    calib: Path | None = typer.Option(
        None, "--calib", help="Calibration inputs (.npy or .npz, first dimension = samples). Default: noise."
    ),
    method: str = typer.Option("ptq", "--method", help="Quantization method: ptq."),
    bits: str = typer.Option("8/8", "--bits", help="Weight bits/activation bits, e.g. 8/8, 4/8, t/8."),
    observer: str = typer.Option("mse", "--observer", help="Activation ranges: mse or minmax."),
    keep: list[str] = typer.Option([], "--keep", help="Layers that keep other bits: 'fc=8/8', 'stem.*=float'; repeatable."),
    batch_size: int = typer.Option(32, "--batch-size", help="Samples per calibration batch."),
    seed: int = typer.Option(0, "--seed", help="Of the noise, where there is no --calib."),
    output: Style = OutputOption,
) -> None:
    """Quantize a torch model, convert it and show its layers."""
    import torch

    from pyqinfer.bits import parse_bits
    from pyqinfer.conversion import convert
    from pyqinfer.methods.ptq import PTQ
    from pyqinfer.quantization import quantize

    if method != "ptq":
        raise ValueError(f"--method {method!r}: expected ptq")
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {batch_size}")
    module = load_reference(model)
    examples = tuple(torch.from_numpy(x) for x in random_inputs(model_input_shapes(module, input), seed))
    if calib is None:
        stderr.print("no --calib: calibrating on noise; the accuracy will be poor", style="yellow")
        batches = [examples]
    else:
        tensors = [torch.from_numpy(array) for array in load_arrays(calib)]
        count = len(tensors[0])
        batches = [tuple(t[i : i + batch_size] for t in tensors) for i in range(0, count, batch_size)]
    pairs = [item.partition("=") for item in keep]
    bad = [item for item, (name, sep, value) in zip(keep, pairs, strict=True) if not (name and sep and value)]
    if bad:
        raise ValueError(f"--keep {bad[0]!r}: expected LAYER=BITS, e.g. 'fc=8/8' or 'stem.*=float'")
    chosen = parse_bits(bits)
    quantized = quantize(
        module,
        PTQ(weight_bits=chosen.weight, act_bits=chosen.act, observer=observer),
        example_inputs=examples,
        calibration=batches,
        keep={name: value for name, _, value in pairs},
    )
    converted = convert(quantized, example_inputs=examples)
    converted.save(out)
    shapes = {name: tuple(x.shape) for name, x in zip(converted.inputs, examples, strict=True)}
    print_report(converted.summary(shapes), output)
