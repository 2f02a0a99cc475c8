"""ONNX files of a case: torch's export, and ONNX Runtime's own int8 version of it. Two engines run them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.cache import artifact, digest, installed
from benchmarks.peers.case import Case

EXPORT_PACKAGES = ("onnx", "onnxscript")
QUANTIZE_PACKAGES = (*EXPORT_PACKAGES, "onnxruntime")


def fp32_file(case: Case) -> Path:
    """The network as torch.onnx exports it, BatchNorm and all: engines fold it themselves."""

    def make(folder: Path) -> None:
        import torch

        torch.onnx.export(
            case.module(),
            case.tensors(),
            folder / "model.onnx",
            input_names=list(case.names),
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    return artifact(case.folder, "onnx-fp32", _made_from(EXPORT_PACKAGES), make) / "model.onnx"


def u8s8_file(case: Case) -> Path:
    """Static QDQ quantization by onnxruntime.quantization: u8 activations, s8 weights per channel, after its pre-processing."""
    source = fp32_file(case)

    def make(folder: Path) -> None:
        quantize_u8s8(source, folder / "model.onnx", [dict(zip(case.names, sample, strict=True)) for sample in case.calibration()])

    return artifact(case.folder, "onnx-u8s8", _made_from(QUANTIZE_PACKAGES), make) / "model.onnx"


def quantize_u8s8(source: Path, target: Path, batches: Iterable[Mapping[str, Any]]) -> None:
    """``quantize_static`` of a float ONNX file: QDQ, u8 activations, s8 weights per channel, after its own pre-processing.

    Args:
        batches: arrays for the inputs by their names.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Mapping[str, Any]] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else dict(batch)

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared))
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()


def dynamic_file(case: Case) -> Path:
    """onnxruntime.quantization.quantize_dynamic: s8 weights per channel of the matrix products, activations quantized as they come."""
    source = fp32_file(case)

    def make(folder: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = folder / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        quantize_dynamic(
            str(prepared), str(folder / "model.onnx"), op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True
        )
        prepared.unlink()

    return artifact(case.folder, "onnx-dynamic", _made_from(QUANTIZE_PACKAGES), make) / "model.onnx"


def _made_from(packages: tuple[str, ...]) -> dict[str, str]:
    return {**{package: installed(package) for package in packages}, "recipe": digest([Path(__file__)])}
