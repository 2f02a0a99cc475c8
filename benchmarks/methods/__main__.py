"""Command line: ``python -m benchmarks.methods --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pyqinfer as pq
from benchmarks.command_line import commit, words
from benchmarks.methods.claims import claims
from benchmarks.methods.entries import QUICK, full
from benchmarks.methods.networks import GLYPHS, Network, folder_network, glyph_network
from benchmarks.methods.peers import PEERS
from benchmarks.methods.results import claims_report, network_result, save
from benchmarks.peers.candidate import is_installed
from pyqinfer.cli.common import named_progress
from pyqinfer.study.grid import Entry
from pyqinfer.study.pareto import OnProgress, Study, conditions, with_latency
from pyqinfer.study.pareto_report import draw, study_report

_CALIBRATION_IMAGES = 512
_QUICK_IMAGES = 1000
# The network on which more budgets are tried.
_DENSE = "resnet20_wide_glyphs"
_STAGES = ("tables", "rows", "latency")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, then tables on stdout, results.json and a picture per network in the folder; progress on stderr."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        networks = _networks(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for network in networks:
        with named_progress(network.name) as update:
            result = _run(network, options, partial(_update, update, network.name))
        if result is not None:
            save(options.out / "results.json", {"versions": _versions(), "quick": options.quick}, {network.name: result})
    return 0


def _update(update: OnProgress, network: str, what: str, done: int, total: int) -> None:
    update(f"{network}: {what}", done, total)


def _run(network: Network, options: argparse.Namespace, update: OnProgress) -> Any:
    folder = options.out / network.name
    study = Study(
        model=network.model,
        examples=network.example,
        calibration=network.calibration,
        data=network.data,
        folder=folder,
        threads=options.threads,
        torch_images=options.torch_images if options.torch_images is not None else network.torch_images,
        on_progress=update,
    )
    entries = list(QUICK) if options.quick else full(options.isa, dense=network.name == _DENSE)
    if options.only:
        entries = [entry for entry in entries if entry.name in options.only]
    if "tables" in options.stages:
        _measure_tables(study, entries)
    if "rows" in options.stages:
        rows = [study.row(entry) for entry in entries]
    else:
        rows = [row for entry in entries if (row := study.known(entry)) is not None]
    if not rows:
        return None
    peers = () if options.no_peers else PEERS
    rows += [peer.row(network, folder, options.threads, update) for peer in peers]
    if "latency" in options.stages:
        working = {row.name for row in rows if row.ok}
        others = {peer.name: peer.timed(network, folder, options.threads) for peer in peers if peer.name in working}
        rows = with_latency(rows, {isa: study.latency(entries, isa, others if isa == "auto" else None) for isa in options.isa})
    facts = conditions(study)
    found = claims(network.name, rows, options.isa)
    print(study_report(f"{network.title}: {facts['cpu']}", rows, facts).render(options.output), end="\n\n")
    print(claims_report(found).render(options.output), end="\n\n", flush=True)
    draw(network.title, rows, folder.with_suffix(".png"))
    return network_result(network.title, network.record, facts, rows, found)


def _measure_tables(study: Study, entries: Sequence[Entry]) -> None:
    """What latency budgets rest on: the 8/8 network's time, and the time of each layer at each width, which `allocate` keeps."""
    for entry in entries:
        if entry.limit is not None and entry.limit.kind == "latency":
            study.on_progress(f"layer times ({entry.isa})", 0, 1)
            budget = entry.limit.budget(study.int8_ms(entry.isa), study.threads, entry.isa)
            with suppress(ValueError):  # a budget that cannot be met: its row will say so
                pq.allocate(
                    study.model, entry.configuration(), budget=budget, example_inputs=study.examples, calibration=study.inputs(entry)
                )


def _networks(options: argparse.Namespace) -> list[Network]:
    images = _QUICK_IMAGES if options.quick and options.images is None else options.images
    if options.data is not None:
        if options.model is None:
            raise ValueError("--data needs --model module:callable, the network that it was trained for")
        return [folder_network(options.model, options.data, options.size, images, _CALIBRATION_IMAGES)]
    unknown = [name for name in options.networks if name not in GLYPHS]
    if unknown:
        raise ValueError(f"--networks {unknown[0]!r}: expected some of {', '.join(GLYPHS)}")
    return [glyph_network(name, images) for name in options.networks]


def _versions() -> dict[str, Any]:
    packages = ("torch", "numpy", "scipy", *dict.fromkeys(package for peer in PEERS for package in peer.packages))
    versions = {package: metadata.version(package) for package in packages if is_installed(package)}
    return {"pyqinfer": pq.__version__, "pyqinfer_commit": commit(), **versions}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path("build/methods"), help="folder of rows, results.json and pictures; what is there is kept")
    add("--quick", action="store_true", help=f"a few rows, on the first {_QUICK_IMAGES} test images")
    add("--networks", type=words, default=list(GLYPHS), help="checkpoints of pyqinfer.zoo, comma list")
    add("--only", type=words, default=[], help="names of rows, comma list such as 'fp32,ptq 8/8'; default: all")
    add("--isa", type=words, default=["auto"], help="instruction sets whose latency is measured and budgeted, comma list")
    add("--threads", type=int, default=1, help="of torch and the engines")
    add("--images", type=int, default=None, help="test images; default: all")
    add("--torch-images", type=int, default=None, help="of them, images that torch runs as well; default: by network")
    add(
        "--stages",
        type=words,
        default=list(_STAGES),
        help="tables (times of layers), rows (without: those that are there), latency; comma list",
    )
    add("--no-peers", action="store_true", help="leave NNCF and ONNX Runtime out")
    add("--data", type=Path, default=None, help="a folder of images per class, such as ImageNet's val, in place of the glyphs")
    add("--model", default=None, help="with --data: module:callable or file.py:callable")
    add("--size", type=int, default=224, help="with --data: side of the images, pixels")
    add("--output", "-o", choices=("table", "md", "csv", "json"), default="table", help="style of the tables on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
