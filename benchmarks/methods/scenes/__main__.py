"""Command line: ``python -m benchmarks.methods.scenes --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import pyqinfer as pq
from benchmarks.command_line import commit, words
from benchmarks.methods.results import SCENES_FORMAT, collected, earlier, save, with_earlier
from benchmarks.methods.scenes.data import scenes
from benchmarks.methods.scenes.networks import TASKS, WEIGHTS, load, train_float
from benchmarks.methods.scenes.rows import ENTRIES, SceneRow, SceneStudy
from pyqinfer._core import cpu_info
from pyqinfer.report import Column, Report

# Scenes to train on, scenes to test on, epochs of rows that train.
_FULL, _QUICK = (5000, 1000, 4), (192, 32, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the rows that are missing, then a table on stdout and results.json in the folder, written after each row."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    unknown = [name for name in options.tasks if name not in TASKS]
    if unknown:
        print(f"error: --tasks {unknown[0]!r}: expected some of {', '.join(TASKS)}", file=sys.stderr)
        return 2
    for name in options.tasks:
        study = _study(name, options)
        entries = [entry for entry in ENTRIES if not options.only or entry.name in options.only]
        row = study.row if "rows" in options.stages else study.known
        rows = collected(entries, row, partial(_write, study, options=options))
        if rows and "latency" in options.stages:
            times = study.latency(entries)
            rows = [replace(row, latency_ms={"auto": times[row.name]}) for row in rows]
            _write(study, rows, options)
        print(_report(study, rows).render(options.output), end="\n\n", flush=True)
    return 0


def _study(name: str, options: argparse.Namespace) -> SceneStudy:
    task = TASKS[name]
    train, test, epochs = _QUICK if options.quick else _FULL
    data = scenes("train", options.train_scenes or train)
    folder = options.out / name
    stored = (WEIGHTS / f"{name}.npz").is_file() and not options.retrain
    weights = WEIGHTS if stored else folder / "float"
    if not (weights / f"{name}.npz").is_file():
        train_float(task, data, weights, epochs=1 if options.quick else None)
    return SceneStudy(
        task, load(task, weights), data, scenes("test", options.scenes or test), options.epochs or epochs, folder, options.threads
    )


def _write(study: SceneStudy, rows: Sequence[SceneRow], options: argparse.Namespace) -> None:
    info = cpu_info()
    facts = {
        "cpu": info["brand"],
        "isa": info["best"],
        "threads": options.threads,
        "scenes": len(study.test),
        "train_scenes": len(study.train),
    }
    path = options.out / "results.json"
    before = earlier(path, SCENES_FORMAT).get(study.task.name, {"rows": []})["rows"]
    together = with_earlier([asdict(row) for row in rows], before, [entry.name for entry in ENTRIES])
    result = {"title": study.task.title, "facts": facts, "rows": together}
    versions = {"pyqinfer": pq.__version__, "pyqinfer_commit": commit(), "torch": str(torch.__version__)}
    save(path, {"versions": versions, "quick": options.quick}, {study.task.name: result}, SCENES_FORMAT)


def _report(study: SceneStudy, rows: Sequence[SceneRow]) -> Report:
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    columns = [Column("name", "network", numeric=False), *(Column(name, f"{name} %", ".2f") for name in scores)]
    columns += [Column("bops", "BOPs (G)", ".3f"), Column("bytes", "file (kB)", ".0f"), Column("ms", "ms", ".3f")]
    cells: list[dict[str, Any]] = [
        {"name": row.name, **row.scores, "bops": row.bops / 1e9, "bytes": row.bytes / 1e3, "ms": row.latency_ms.get("auto")} for row in rows
    ]
    return Report(study.task.title, columns, cells)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.scenes", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path("build/scenes"), help="folder of rows and results.json; what is there is kept")
    add("--quick", action="store_true", help="a smoke test: few scenes, one epoch")
    add("--tasks", type=words, default=list(TASKS), help="comma list")
    add("--only", type=words, default=[], help="names of rows, comma list such as 'fp32,ptq 8/8'; default: all")
    add("--retrain", action="store_true", help="train the float networks anew, into the folder, in place of those of the repository")
    add("--epochs", type=int, default=None, help="of rows that train (PrunedTernary has three times as many)")
    add("--train-scenes", type=int, default=None)
    add("--scenes", type=int, default=None, help="test scenes")
    add("--threads", type=int, default=1, help="of torch and the engine")
    add("--stages", type=words, default=["rows", "latency"], help="rows (without: those that are there), latency; comma list")
    add("--output", "-o", choices=("table", "md", "csv", "json"), default="table", help="style of the tables on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
