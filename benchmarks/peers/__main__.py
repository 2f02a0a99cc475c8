"""Command line: ``python -m benchmarks.peers --help``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyqinfer as pq
from benchmarks.command_line import commit, words
from benchmarks.peers.candidate import Candidate, is_installed
from benchmarks.peers.case import Case
from benchmarks.peers.catalogue import candidates
from benchmarks.peers.contest import prepare, run_race
from benchmarks.peers.networks import exists
from benchmarks.peers.peak import Peak, load_peak
from benchmarks.peers.race import Protocol
from benchmarks.peers.results import Race, save
from benchmarks.peers.worker import Block
from pyqinfer.cli.common import named_progress

_ROOT = Path(__file__).parents[2] / "build" / "peers"
_VERSIONS_OF = ("torch", "numpy")
_MODELS = (
    "comma list of functions of pyqinfer.zoo, torchvision:NAME, timm:NAME, transformers:CLASS[@TOKENS], path/file.py:FUNCTION "
    "(gives a module, or a module and its inputs)"
)
_CAPS = ("PYQINFER_ISA", "ONEDNN_MAX_CPU_ISA")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the races; tables on stdout, progress on stderr. 1 if nobody could be timed."""
    options = _parser().parse_args(arguments)
    try:
        chosen = candidates(options.variants, options.skip)
        protocol = Protocol(rounds=options.rounds, block=Block(calls=options.calls), tries=options.tries)
        cases = [_case(model, options) for model in options.models]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    peak = load_peak(options.root)
    races: list[Race] = []
    for case in cases:
        try:
            case.macs()  # builds the network once
        except Exception as error:  # whatever the package or the file of a network raises
            print(f"error: {case.model}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        with named_progress() as on_progress:
            reasons = prepare(chosen, case, on_progress)
        for threads in options.threads:
            with named_progress() as on_progress:
                races.append(run_race(chosen, case, threads, reasons, peak, protocol, on_progress))
            print(races[-1].report(protocol, peak.instruction).render(options.output), end="\n\n", flush=True)
            if options.json is not None:  # after every race: an interrupted run keeps what it has measured
                save(options.json, _conditions(chosen, peak, options), races, protocol)
    return 0 if any(row.counts for race in races for row in race.rows) else 1


def _case(model: str, options: argparse.Namespace) -> Case:
    try:
        exists(model)
    except ValueError as error:
        raise ValueError(f"--models: {error}") from None
    return Case(model, options.size, options.seed, options.root)


def _conditions(chosen: Sequence[Candidate], peak: Peak, options: argparse.Namespace) -> dict[str, Any]:
    """What a figure needs beside it: machine, versions, settings."""
    info = pq.cpu_info()
    packages = [*_VERSIONS_OF, *(package for candidate in chosen for package in candidate.packages)]
    return {
        "machine": {
            "cpu": info["brand"],
            "isas": info["isas"],
            "usable_cpus": info["threads"],
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "peak_instruction": peak.instruction or None,
            "peak_missing_because": peak.reason or None,
        },
        "versions": {
            "python": platform.python_version(),
            "pyqinfer": pq.__version__,
            "pyqinfer_commit": commit(),
            "pyqinfer_compiler": info["compiler"],
            **{package: metadata.version(package) for package in dict.fromkeys(packages) if is_installed(package)},
        },
        # What caps an engine's instruction set: a race between equals where the CPU has more than the engines are to use.
        "environment": {name: os.environ[name] for name in _CAPS if name in os.environ},
        "seed": options.seed,
        "weights": "random, with BatchNorm statistics of randomize_batchnorm, but for networks whose file brings its own",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--models", type=words, default=["resnet18", "resnet50", "mobilenet_v2"], help=_MODELS)
    add(
        "--variants",
        type=words,
        default=["fp32", "int8"],
        help="fp32, int8, bits of weights/activations such as 4/4, t/4:90 (90 %% pruned); comma list",
    )
    add("--threads", type=_numbers, default=[1], help="numbers of threads, comma list")
    add("--skip", type=words, default=[], help="names of candidates to leave out, comma list, such as 'torch inductor'")
    add("--size", type=_number, default=224, help="height and width of the input")
    add("--rounds", type=_number, default=6, help="blocks per candidate")
    add("--calls", type=_number, default=15, help="calls per block, at least")
    add("--tries", type=_number, default=3, help="races at most, until the peaks before and after agree within 3 %%")
    add("--seed", type=int, default=0, help="of weights and inputs")
    add("--json", type=Path, default=None, help="write everything measured to this file")
    add("--output", "-o", choices=("table", "md", "csv", "json"), default="table", help="style of the tables on stdout")
    add("--root", type=Path, default=_ROOT, help="folder for converted and quantized networks (default: build/peers)")
    return parser


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number >= 1, got {text!r}")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_number(word) for word in words(text)]


if __name__ == "__main__":
    sys.exit(main())
