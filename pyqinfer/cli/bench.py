"""``pyqinfer bench``: latency of models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pyqinfer.cli.common import (
    MODEL_HELP,
    AlgorithmOption,
    FipOption,
    InputOption,
    IsaOption,
    MaxMemoryOption,
    OutputOption,
    Style,
    load_reference,
    named_progress,
    parse_list,
    parse_words,
    print_report,
    progress,
    run_limits,
    stderr,
    torch_reference,
)
from pyqinfer.cli.inputs import as_tensors, example_inputs, example_tensors, load_arrays
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.model import Model
from pyqinfer.report import Column, Report
from pyqinfer.session import RunOptions, Session


def command(
    models: list[str] = typer.Argument(help=MODEL_HELP),
    input: list[str] = InputOption,
    threads: str = typer.Option("1", "--threads", help="Numbers of threads, comma list: 1,2."),
    batch: int | None = typer.Option(None, "--batch", min=1, help="Images per call. Default: that of --input, or 1."),
    concurrency: int = typer.Option(1, "--concurrency", min=1, help="Callers at once, each with --threads of its own for torch."),
    min_time: float = typer.Option(1.0, "--min-time", help="Seconds per model and number of threads."),
    seed: int = typer.Option(0, "--seed", help="Seed of the random inputs."),
    isa: str = IsaOption,
    max_memory: int | None = MaxMemoryOption,
    algorithm: str = AlgorithmOption,
    fip: str = FipOption,
    bits: str = typer.Option("", "--bits", help="Quantize one torch model at these widths and compare them: 8/8,4/8,4/4,t/4."),
    zeros: str = typer.Option("0", "--zeros", help="With --bits: percent of the weights that are pruned first, comma list: 0,50,80,90."),
    calib: Path | None = typer.Option(None, "--calib", help="With --bits: calibration inputs (.npy or .npz). Default: noise."),
    plot: Path | None = typer.Option(None, "--plot", help="With --bits: a PNG of latency and size against BOPs."),
    peers: Path | None = typer.Option(None, "--peers", help="With --plot: JSON of `make peers`, whose int8 times become lines."),
    output: Style = OutputOption,
) -> None:
    """Time models in turn (A B A B ...) on random inputs; the speed-up is against the fastest float model.

    With --bits: what each width costs and buys on one torch model (first and last layer stay at 8/8).
    """
    if bits:
        _bits(models, input, threads, bits, zeros, calib, plot, peers, (min_time, seed, isa, algorithm, fip), output)
        return
    if calib or plot or peers or zeros != "0":
        raise ValueError("--zeros, --calib, --plot and --peers go with --bits")
    candidates = {_name(reference): load_reference(reference) for reference in models}
    if len(candidates) != len(models):
        raise ValueError("two models have the same name: " + ", ".join(_name(m) for m in models))
    limits = run_limits(max_memory)
    # A converted model knows the shapes of its inputs, which a torch model beside it then needs not be told.
    known = next((model for model in candidates.values() if isinstance(model, Model)), next(iter(candidates.values())))
    inputs = example_inputs(known, input, seed, limits, batch)
    rows, notes = [], []
    report = None
    for count in parse_list(threads, "--threads"):
        with progress(f"bench, {count} threads") as update:
            timed = {name: _session(m, count, isa, algorithm, fip, limits) for name, m in candidates.items()}
            report = benchmark(timed, inputs, threads=count, min_time=min_time, isa=isa, concurrency=concurrency, on_progress=update)
        rows += [{"threads": count, **row} for row in report.rows]
        notes += [note for note in report.notes if note not in notes]
    assert report is not None  # parse_list gives at least one number
    columns = [report.columns[0], Column("threads", "threads", "d"), *report.columns[1:]]
    shapes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
    title = f"Latency on {shapes}: {report.facts['cpu']} ({report.facts['isa']})"
    print_report(Report(title, columns, rows, report.facts, notes), output)


def _session(model: Any, threads: int, isa: str, algorithm: str, fip: str, limits: RunOptions) -> Any:
    return Session(model, threads, isa, algorithm, fip, limits) if isinstance(model, Model) else model


def _bits(
    models: list[str],
    input: list[str],
    threads: str,
    bits: str,
    zeros: str,
    calib: Path | None,
    plot: Path | None,
    peers: Path | None,
    settings: tuple[float, int, str, str, str],
    output: Style,
) -> None:
    from pyqinfer.arguments import input_names
    from pyqinfer.study.bits_grid import bits_grid, draw, peer_times

    min_time, seed, isa, algorithm, fip = settings
    counts = parse_list(threads, "--threads")
    if len(models) != 1 or len(counts) != 1:
        raise ValueError(f"--bits takes one model and one number of threads, got {len(models)} and {len(counts)}")
    module = torch_reference(models[0])
    lines = peer_times(peers, _name(models[0]), counts[0]) if peers else None
    examples = example_tensors(module, input, seed)
    batches = [examples] if calib is None else [as_tensors(load_arrays(calib, input_names(module, len(examples))))]
    with named_progress("bits") as update:
        report = bits_grid(
            module,
            examples,
            parse_words(bits),
            batches,
            threads=counts[0],
            isa=isa,
            algorithm=algorithm,
            fip=fip,
            min_time=min_time,
            zeros=_shares(zeros),
            on_progress=update,
        )
    print_report(report, output)
    if plot is not None:
        draw(report, plot, lines)
        stderr.print(f"wrote {plot}")


def _shares(percents: str) -> list[float]:
    shares = []
    for word in parse_words(percents):
        try:
            percent = float(word)
        except ValueError:
            percent = -1.0
        if not 0 <= percent < 100:
            raise ValueError(f"--zeros: expected percents of at least 0 and below 100, got {word!r}")
        shares.append(percent / 100)
    return shares


def _name(reference: str) -> str:
    return Path(reference).name if reference.endswith(".pqi") else reference.rpartition(":")[2]
