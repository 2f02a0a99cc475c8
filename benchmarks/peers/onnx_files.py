"""ONNX files of a case: torch's export, and ONNX Runtime's own int8 version of it. Two engines run them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.cache import artifact, digest, installed
from benchmarks.peers.case import Case

EXPORT_PACKAGES = ("onnx", "onnxscript")
QUANTIZE_PACKAGES = (*EXPORT_PACKAGES, "onnxruntime")
INPUT = "x"


def fp32_file(case: Case) -> Path:
    """The network as torch.onnx exports it, BatchNorm and all: engines fold it themselves."""

    def make(folder: Path) -> None:
        import torch

        torch.onnx.export(
            case.module(),
            (case.tensor(),),
            folder / "model.onnx",
            input_names=[INPUT],
            output_names=["y"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    return artifact(case.folder, "onnx-fp32", _made_from(EXPORT_PACKAGES), make) / "model.onnx"


def u8s8_file(case: Case) -> Path:
    """Static QDQ quantization by onnxruntime.quantization: u8 activations, s8 weights per channel, after its pre-processing."""
    source = fp32_file(case)

    def make(folder: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = folder / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(folder / "model.onnx"),
            _reader(case),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        prepared.unlink()

    return artifact(case.folder, "onnx-u8s8", _made_from(QUANTIZE_PACKAGES), make) / "model.onnx"


def _reader(case: Case) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples: Iterator[Any] = iter(case.calibration())

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._samples, None)
            return None if sample is None else {INPUT: sample}

    return Reader()


def _made_from(packages: tuple[str, ...]) -> dict[str, str]:
    return {**{package: installed(package) for package in packages}, "recipe": digest([Path(__file__)])}
