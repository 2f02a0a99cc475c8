"""Linear layers with int4 weights against ONNX Runtime's MatMulNBits: ``python -m benchmarks.matmul_nbits --help``.

Both quantize their activations to 8 bits at run time (MatMulNBits: ``accuracy_level=4``) and read the same codes and scales, groups of 32.
Blocks of calls alternate; a figure is the median of its blocks' medians. Ternary layers have no peer there and are timed alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import pyqinfer as pq
from pyqinfer.frontend.sources.dynamic import DynamicQuantizeDequantize, DynamicQuantizer
from pyqinfer.frontend.sources.stand_ins import CodedLinear
from pyqinfer.report import Column, Report

GROUP, INPUTS = 32, 4096
_COSINE = 0.999
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def ours(codes: NDArray[np.int8], scale: NDArray[np.float32], bits: int, threads: int) -> Run:
    """The engine over codes [O, I] and scales [O, G] of any number of rows."""
    before = DynamicQuantizeDequantize(DynamicQuantizer("asymmetric", "row", -128, 127, float(torch.finfo(torch.float32).eps)))
    zero_point = torch.zeros(scale.shape, dtype=torch.int64)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    layer = CodedLinear(torch.from_numpy(codes), torch.from_numpy(scale), zero_point, low, high, None, before)
    session = pq.Session(pq.convert(layer, example_inputs=(torch.randn(2, codes.shape[1]),), fallback="error"), threads=threads)
    return lambda x: session(x)


def theirs(codes: NDArray[np.int8], scale: NDArray[np.float32], threads: int) -> Run:
    """One MatMulNBits node over the same codes, 4 bits with the zero point 8."""
    outputs, inputs = codes.shape
    nibbles = (codes + 8).astype(np.uint8).reshape(outputs, inputs // GROUP, GROUP // 2, 2)
    constants = {"B": nibbles[..., 0] | nibbles[..., 1] << 4, "scales": scale.reshape(-1)}
    attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": GROUP, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", **attributes)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["M", size]) for name, size in (("x", inputs), ("y", outputs))]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def race(runs: Sequence[Run], x: NDArray[np.float32], rounds: int, seconds: float) -> list[float]:
    """How long one call of each takes, in seconds."""
    medians: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, medians, strict=True):
            for _ in range(3):
                start = time.perf_counter()
                run(x)
                once = time.perf_counter() - start
            calls = max(3, int(seconds / once))
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                run(x)
                times.append(time.perf_counter() - start)
            found.append(statistics.median(times))
    return [statistics.median(found) for found in medians]


def measure(outputs: int, rows: Sequence[int], bits: int, threads: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One result for each number of rows."""
    rng = np.random.default_rng(0)
    groups = INPUTS // GROUP if bits == 4 else 1
    codes = rng.integers(-8, 8, (outputs, INPUTS)) if bits == 4 else rng.integers(-1, 2, (outputs, INPUTS))
    scale = rng.uniform(0.001, 0.01, (outputs, groups)).astype(np.float32)
    codes = codes.astype(np.int8)
    runs = [ours(codes, scale, bits, threads)] + ([theirs(codes, scale, threads)] if bits == 4 else [])
    found = []
    for m in rows:
        x = rng.standard_normal((m, INPUTS)).astype(np.float32)
        results = [run(x).ravel() for run in runs]
        cosine = float(results[0] @ results[-1] / (np.linalg.norm(results[0]) * np.linalg.norm(results[-1])))
        if cosine < _COSINE:
            raise SystemExit(f"the results have a cosine of {cosine:.4f}: nothing to compare")
        times = race(runs, x, rounds, seconds)
        macs = m * INPUTS * outputs / 1e9
        peer = macs / times[1] if bits == 4 else None
        ratio = times[1] / times[0] if bits == 4 else None
        layer = f"{m} x {INPUTS} x {outputs}"
        weights = "int4, groups of 32" if bits == 4 else "ternary"
        found.append({"layer": layer, "weights": weights, "threads": threads, "ours": macs / times[0], "peer": peer, "ratio": ratio})
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Table on stdout, progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    integers = lambda text: [int(v) for v in text.split(",")]  # noqa: E731
    parser.add_argument("--rows", type=integers, default=[1, 128])
    parser.add_argument("--outputs", type=integers, default=[4096, 14336])
    parser.add_argument("--threads", type=integers, default=[1])
    parser.add_argument("--bits", type=integers, default=[4], help="4, or 2: ternary")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.1, help="how long a block of calls lasts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results = []
    for outputs in options.outputs:
        for bits in options.bits:
            for threads in options.threads:
                print(f"{outputs} outputs, {bits} bits, {threads} threads", file=sys.stderr)
                results += measure(outputs, options.rows, bits, threads, options.rounds, options.seconds)
    cpu = pq.cpu_info()
    columns = [
        Column("layer", "rows x inputs x outputs"),
        Column("weights", "weights"),
        Column("threads", "threads"),
        Column("ours", "pyqinfer GMAC/s", ".1f"),
        Column("peer", "MatMulNBits GMAC/s", ".1f"),
        Column("ratio", "their time / ours", ".2f"),
    ]
    print(Report("Linear layers", columns, results).table())
    if options.json is not None:
        versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "pyqinfer": pq.__version__}
        options.json.write_text(json.dumps({"cpu": cpu, "versions": versions, "results": results}, indent=1, default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
