"""Networks quantized by ONNX Runtime and by NNCF, run by ONNX Runtime and by the engine: `python -m benchmarks.onnx.agreement FOLDER`.

FOLDER has torch.onnx exports of float networks (NAME.onnx, input `x`). Each is quantized in every form, converted, and compared on random
images or tokens: the largest difference in steps of an 8-bit output, and how often the largest output is the same one.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import onnx
import pyqinfer as pq

_FORMS = ("QDQ", "QDQ-tensor", "QOperator", "dynamic", "nncf")


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, arrays: list[Any]) -> None:
        self._batches = iter([{name: array} for array in arrays])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def inputs_of(model: Any, count: int, seed: int) -> tuple[str, Any]:
    """The input's name and random values for it."""
    port = model.graph.input[0]
    tensor = port.type.tensor_type
    shape = [count, *[dim.dim_value for dim in tensor.shape.dim][1:]]
    rng = np.random.default_rng(seed)
    if tensor.elem_type == onnx.TensorProto.INT64:
        return port.name, rng.integers(0, 50, shape)
    return port.name, rng.standard_normal(shape, dtype=np.float32)


def quantized(source: Path, form: str, folder: Path) -> Path:
    """The network in one form."""
    prepared, target = folder / f"{source.stem}.prepared.onnx", folder / f"{source.stem}.{form}.onnx"
    quant_pre_process(str(source), str(prepared))
    name, x = inputs_of(onnx.load(prepared), 32, 1)
    batches = [x[i : i + 4] for i in range(0, 32, 4)]
    if form == "dynamic":
        quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    elif form == "nncf":
        import nncf

        model = nncf.quantize(onnx.load(prepared), nncf.Dataset([{name: batch} for batch in batches]), subset_size=len(batches))
        onnx.save(model, target)
    else:
        kind = QuantFormat.QOperator if form == "QOperator" else QuantFormat.QDQ
        quantize_static(
            str(prepared),
            str(target),
            _Batches(name, batches),
            quant_format=kind,
            per_channel=form != "QDQ-tensor",
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return target


def compare(path: Path, count: int, batch: int) -> tuple[float, float, int]:
    """Largest difference in 255ths of the outputs' range, share of equal top-1, layers in integers."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    other = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, x = inputs_of(onnx.load(path), count, 2)
    converted = pq.convert(path, samples=0)
    session = pq.Session(converted, threads=1)
    worst, same, span = 0.0, 0, 0.0
    for rows in (x[i : i + batch] for i in range(0, count, batch)):
        want = other.run(None, {name: rows})[0]
        have = session(rows.astype(np.int32) if rows.dtype.kind == "i" else rows)
        worst, span = max(worst, float(np.abs(want - have).max())), max(span, float(want.max() - want.min()))
        same += int((want.argmax(-1) == have.argmax(-1)).sum())
    integers = sum(layer["op"] in ("conv2d", "linear", "linear_dynamic") for layer in converted.graph["nodes"])
    return worst / (span / 255), same / count, integers


def rows(folder: Path, only: str, count: int, batch: int) -> Iterator[str]:
    """Lines of a table."""
    for source in sorted(folder.glob("*.onnx")):
        if source.stem.count(".") or (only and only not in source.stem):
            continue
        for form in _FORMS:
            try:
                steps, same, layers = compare(quantized(source, form, folder), count, batch)
                yield f"| {source.stem} | {form} | {steps:.2f} | {100 * same:.2f} % | {layers} |"
            except Exception as error:  # one form that a tool cannot make leaves the others
                yield f"| {source.stem} | {form} | {type(error).__name__}: {str(error).splitlines()[-1][:150]} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| network | form | largest difference (steps) | same top-1 | layers |\n|---|---|---|---|---|", flush=True)
    for line in rows(options.folder, options.only, options.count, options.batch):
        print(line, flush=True)


if __name__ == "__main__":
    main()
