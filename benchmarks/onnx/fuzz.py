"""Mutated ONNX files: `python -m benchmarks.onnx.fuzz FILE.onnx... --cases 100000`.

Each case is a file with bytes or fields changed, by a number that repeats it. It may be read, or refused with ModelFormatError,
UnsupportedError or, once its numbers are looked at, ValueError. What must not happen is counted: another exception, the end of the process,
more than 5 s, or more than 1 GB of memory beyond that of the start. A case in `--convert` goes on to the engine's model.
"""

from __future__ import annotations

import argparse
import random
import resource
import select
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

_SECONDS, _BYTES = 5.0, 1 << 30
# Opening a new process and importing torch takes this long at most.
_START_SECONDS = 120.0
_ALLOWED = ("read", "converted", "ModelFormatError", "UnsupportedError", "ValueError")


def mutated(seeds: list[bytes], case: int) -> bytes:
    """The bytes of a case."""
    rng = random.Random(case)
    data = rng.choice(seeds)
    if rng.random() < 0.5:
        return _changed_fields(rng, data)
    return _changed_bytes(rng, data, seeds)


def _changed_bytes(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, kind = rng.randrange(len(out) + 1), rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 8, 64, len(out)))]
        elif kind == 3:
            out[at : at + 10] = b"\xff" * 9 + b"\x01"  # the largest number of protobuf
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            out[at:at] = other[start : start + rng.randrange(256)]
        else:
            out[at:at] = out[at : at + rng.randrange(256)]
        if not out:
            break
    return bytes(out)


def _changed_fields(rng: random.Random, data: bytes) -> bytes:
    import onnx
    from pyqinfer.frontend.sources.onnx.table import TABLE

    model = onnx.ModelProto.FromString(data)
    graph, big = model.graph, (0, -1, 1, 2, 3, 7, 64, 65535, 2**31 - 1, 2**40, -(2**63))
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node)
        kind = rng.randrange(9)
        if kind == 0 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = rng.choice(big)
            for i in range(len(attribute.ints)):
                attribute.ints[i] = rng.choice(big)
            attribute.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
        elif kind == 1:
            domain, node.op_type = rng.choice(list(TABLE))
            node.domain = domain
        elif kind == 2 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice([*node.input, "", "no such name", *[t.name for t in graph.initializer]])
        elif kind == 3 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(big)
        elif kind == 4 and graph.initializer:
            rng.choice(graph.initializer).data_type = rng.randrange(30)
        elif kind == 5 and graph.input:
            dims = graph.input[0].type.tensor_type.shape.dim
            if dims:
                rng.choice(dims).dim_value = rng.choice(big)
        elif kind == 6 and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        elif kind == 7 and node.input:
            del node.input[rng.randrange(len(node.input))]
        else:
            small = [t for t in graph.initializer if 0 < len(t.raw_data) <= 64]
            if small:
                tensor = rng.choice(small)
                raw = bytearray(tensor.raw_data)
                raw[rng.randrange(len(raw))] = rng.randrange(256)
                tensor.raw_data = bytes(raw)
    try:
        return bytes(model.SerializeToString())
    except ValueError:  # some number does not fit its field
        return data


def outcome(data: bytes, convert: bool) -> str:
    """What became of the bytes: a word, with the exception's text where it is none that is allowed."""
    import pyqinfer as pq
    from pyqinfer.frontend.sources.onnx.module import OnnxModule
    from pyqinfer.frontend.sources.onnx.reading import read_bytes

    try:
        module = OnnxModule(read_bytes(data))
        if not convert:
            return "read"
        pq.convert(module, samples=0)
        return "converted"
    except Exception as error:
        name = type(error).__name__
        return name if name in _ALLOWED else f"{name}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _worker(paths: list[str], first: int, count: int, convert: bool) -> None:
    import torch

    import pyqinfer.conversion  # noqa: F401  (its memory is that of the start)

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    seeds = [Path(path).read_bytes() for path in paths]
    outcome(seeds[0], convert)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("ready", flush=True)
    for case in range(first, first + count):
        result = outcome(mutated(seeds, case), convert)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
        if grown > _BYTES:
            result = f"memory: {grown >> 20} MB, {result}"
            base += grown // 1024
        print(f"{case} {result}", flush=True)


def run(paths: list[str], first: int, cases: int, convert: bool) -> Counter[str]:
    """Count what becomes of cases, in processes that are opened anew where one ends or hangs."""
    counts: Counter[str] = Counter()
    case = first
    while case < first + cases:
        command = [
            sys.executable,
            "-m",
            "benchmarks.onnx.fuzz",
            *paths,
            "--worker",
            "--first",
            str(case),
            "--cases",
            str(first + cases - case),
        ]
        process: Any = subprocess.Popen([*command, *["--convert"] * convert], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        seconds, started = _START_SECONDS, False
        while True:
            began = time.monotonic()
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            line = process.stdout.readline() if ready else ""
            if line.startswith("ready"):
                started = True
                seconds = _SECONDS * (6 if convert else 1)
                continue
            if line:
                result = line.rstrip("\n").partition(" ")[2]
            else:
                process.kill()
                code = process.wait()
                if not started:
                    raise RuntimeError(f"the first file cannot be read (the process ended with {code})")
                if case >= first + cases:
                    break
                result = f"hang: more than {time.monotonic() - began:.0f} s" if not ready else f"crash: the process ended with {code}"
            counts[result if result in _ALLOWED else result.partition(":")[0]] += 1
            if result not in _ALLOWED:
                print(f"case {case}: {result}", flush=True)
            case += 1
            if not line or case >= first + cases:
                break
        process.kill()
        process.wait()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--convert", action="store_true", help="convert what can be read; a case then has six times as long")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _worker(options.files, options.first, options.cases, options.convert)
        return
    for result, count in run(options.files, options.first, options.cases, options.convert).most_common():
        print(f"{count:8d} {result}")


if __name__ == "__main__":
    main()
