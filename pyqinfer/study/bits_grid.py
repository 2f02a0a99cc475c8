"""What a bit is worth on one network: the same float model at several widths, with BOPs, bytes, latency and algorithms side by side."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pyqinfer.accounting import BOPS_CONVENTION
from pyqinfer.bits import LayerBits, parse_bits
from pyqinfer.conversion import convert
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.methods.ptq import PTQ
from pyqinfer.model import Model
from pyqinfer.plotting import label_points
from pyqinfer.quantization import quantize
from pyqinfer.report import Cell, Column, Report
from pyqinfer.session import Session
from pyqinfer.train.pruning import finish_pruning, prunable, prune

OnProgress = Callable[[str, int, int], None]  # is called with what is being done, steps done, steps in all

_INT8 = LayerBits(8, 8)
_COLUMNS = [
    Column("name", "bits w/a", numeric=False),
    Column("bops", "BOPs (G)", ".2f", scale=1e9),
    Column("sparse_bops", "without zeros", ".2f", scale=1e9),
    Column("zeros_percent", "zeros %", ".1f"),
    Column("file_bytes", "file (kB)", ",.0f", scale=1e3),
    Column("smaller", "smaller", ".2f"),
    Column("p50_ms", "p50 ms", ".3f"),
    Column("speedup", "x 8/8", ".2f"),
    Column("algorithms", "layers executed as", numeric=False),
]


def bits_grid(
    model: nn.Module,
    examples: tuple[Tensor, ...],
    bits: Sequence[str | LayerBits],
    calibration: Iterable[Any],
    *,
    threads: int = 1,
    isa: str = "auto",
    algorithm: str = "auto",
    fip: str = "auto",
    min_time: float = 1.0,
    zeros: Sequence[float] = (0.0,),
    on_progress: OnProgress = lambda what, done, total: None,
) -> Report:
    """Quantize by plain PTQ at each width (first and last layer 8/8), convert, and time all of them in turns.

    Args:
        model: float module. examples: its inputs, whose shapes are timed. bits: such as ``["8/8", "4/4", "t/4"]``; 8/8 is added if missing,
            because speed-ups are against it. calibration: batches of inputs. threads, isa, algorithm, fip: of the sessions.
        min_time: seconds per network. zeros: shares of the weights of each layer but the first and the last that are pruned by magnitude
            before they are quantized; each width is measured at each share. on_progress: called with what is being done and how far it is.

    Returns:
        Columns: BOPs in G (dense, and counted for weights other than zero only), the share of codes that are zero (few bits make more zeros
        than were pruned), kB of the file and how many times smaller than in 32-bit floats, median ms, the speed-up against 8/8, and how
        many layers run by which algorithm.
    """
    widths = list(dict.fromkeys([_INT8, *(parse_bits(width) for width in bits)]))
    batches = list(calibration)
    models: dict[str, Model] = {}
    entries = dict.fromkeys([(_INT8, 0.0), *((width, share) for share in zeros for width in widths if share == 0 or width != _INT8)])
    for done, (width, share) in enumerate(entries):
        name = f"{width}, {100 * share:g} % pruned" if share else str(width)
        on_progress(f"quantizing {name}", done, len(entries))
        method = PTQ(weight_bits=width.weight, act_bits=width.act)
        quantized = quantize(pruned_inside(model, share), method, example_inputs=examples, calibration=batches)
        models[name] = convert(quantized, example_inputs=examples)
    sessions = {name: Session(m, threads=threads, isa=isa, algorithm=algorithm, fip=fip) for name, m in models.items()}
    timing = benchmark(
        sessions, examples, threads=threads, min_time=min_time, on_progress=lambda done, total: on_progress("timing", done, total)
    )
    times = {str(row["name"]): float(row["p50_ms"] or 0) for row in timing.rows}
    shapes = {name: tuple(x.shape) for name, x in zip(next(iter(models.values())).inputs, examples, strict=True)}
    rows = [_row(name, models[name], sessions[name], shapes, times) for name in models]
    facts = {
        **timing.facts,
        "isa": next(iter(sessions.values())).isa,
        "algorithm": algorithm,
        "fip": fip,
        "bops_convention": BOPS_CONVENTION,
        "inputs": {name: list(shape) for name, shape in shapes.items()},
    }
    title = f"Bits on {facts['cpu']} ({facts['isa']}), {threads} thread(s)"
    return Report(title, _COLUMNS, rows, facts, ["first and last layer at 8/8; BOPs: MACs x weight bits x activation bits"])


def pruned_inside(model: nn.Module, share: float) -> nn.Module:
    """A copy whose layers, but for the first and the last, have that share of zeros; the model itself where there is nothing to prune."""
    if not share:
        return model
    names = list(prunable(model))
    ends = dict.fromkeys(names[:1] + names[-1:])
    return finish_pruning(prune(copy.deepcopy(model), share, keep=list(ends)))


def zeros_of(model: Model) -> float:
    """The share of zeros among the weight codes of all layers that have codes, 0 where there are none."""
    weights = [model.constant(node["constants"]["weight"]) for node in model.graph["nodes"] if "weight" in node["constants"]]
    codes = [w for w in weights if np.issubdtype(w.dtype, np.integer)]
    return 1 - sum(map(np.count_nonzero, codes)) / max(sum(w.size for w in codes), 1) if codes else 0.0


def _row(name: str, model: Model, session: Session, shapes: Mapping[str, tuple[int, ...]], times: Mapping[str, float]) -> dict[str, Cell]:
    costs = model.layer_costs(shapes)
    weights = {node["name"]: node["constants"].get("weight") for node in model.graph["nodes"]}
    sparse = 0.0
    for cost in costs:
        index = weights.get(cost.name)
        if cost.bops and index is not None:
            sparse += cost.bops * float(np.count_nonzero(model.constant(index))) / cost.params
    executed = Counter(layer["executed_as"].removesuffix(f"-{session.isa}") for layer in session.layers() if layer["weight_bits"])
    return {
        "name": name,
        "bops": sum(cost.bops for cost in costs),
        "sparse_bops": sparse,
        "zeros_percent": 100 * zeros_of(model),
        "file_bytes": model.nbytes,
        "smaller": 4 * sum(cost.params for cost in costs) / model.nbytes,
        "p50_ms": times[name],
        "speedup": times[str(_INT8)] / times[name],
        "algorithms": ", ".join(f"{count} {kind}" for kind, count in executed.most_common()),
    }


def peer_times(path: Path, network: str, threads: int) -> dict[str, float]:
    """Median ms of the int8 candidates of other engines on a network, in a JSON that ``benchmarks.peers`` wrote.

    Raises:
        OSError: it cannot be read. ValueError: it is no such file, or has no race of that network on that many threads.
    """
    try:
        races = [race for race in json.loads(path.read_text())["races"] if (race["model"], race["threads"]) == (network, threads)]
        found = {
            row["name"]: float(row["timing"]["median"])
            for race in races
            for row in race["candidates"]
            if row["variant"] == "int8" and row["is_peer"] and row["status"] == "ok"
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a result of benchmarks.peers ({error!r})") from None
    if not found:
        raise ValueError(f"{path}: no race of int8 engines on {network!r} with {threads} thread(s)")
    return found


def draw(report: Report, path: Path, peers: Mapping[str, float] | None = None) -> None:
    """Write a PNG: latency and file size against BOPs, one point per width, with other engines' int8 times as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    drawn = []
    panels = (("p50_ms", 1.0, "latency (ms)", "#1f8a70"), ("file_bytes", 1e3, "file (kB)", "#5d7a9c"))
    for axis, (key, scale, label, color) in zip(axes, panels, strict=True):
        points = sorted((float(row["bops"] or 0) / 1e9, float(row[key] or 0) / scale, str(row["name"])) for row in report.rows)
        axis.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", color=color)
        axis.set_xlabel("BOPs (G)")
        axis.set_ylabel(label)
        highest = max([y for _, y, _ in points] + (list((peers or {}).values()) if key == "p50_ms" else []))
        axis.set_ylim(0, 1.12 * highest)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
        drawn.append((axis, points))
    for (name, ms), color in zip((peers or {}).items(), ("#d35400", "#8e44ad", "#7f8c8d", "#c0392b"), strict=False):
        axes[0].axhline(ms, color=color, linestyle="--", linewidth=1, label=f"{name}, int8: {ms:.2f} ms")
    if peers:
        axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    for axis, points in drawn:
        level = [[(axis.get_xlim()[0], ms), (axis.get_xlim()[1], ms)] for ms in (peers or {}).values()] if axis is axes[0] else []
        label_points(axis, points, [[(x, y) for x, y, _ in points], *level], size=9)
    figure.suptitle(report.title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
