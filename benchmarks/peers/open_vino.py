"""OpenVINO, fp32, int8 by NNCF, and int8 on ONNX Runtime's file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.peers import onnx_files
from benchmarks.peers.cache import artifact, digest, installed
from benchmarks.peers.candidate import FP32, INT8, Candidate, Loaded
from benchmarks.peers.case import Case

# bf16 is OpenVINO's default where the CPU has it: fp32 is asked for, or the comparison would be with another precision.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
_REPORTED = ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING")


class OpenVino(Candidate):
    """``fp32``: the torch module through OpenVINO's own frontend. ``int8``: that model through ``nncf.quantize``."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.name = "OpenVINO" if variant == FP32 else "OpenVINO NNCF"
        self.packages = ("openvino",) if variant == FP32 else ("openvino", "nncf")

    def _file(self, case: Case) -> Path:
        fp32 = artifact(case.folder, "openvino-fp32", _made_from("openvino"), lambda folder: _convert(case, folder))
        if self.variant == FP32:
            return fp32 / "model.xml"
        made_from = _made_from("openvino", "nncf")
        return artifact(case.folder, "openvino-nncf", made_from, lambda folder: _quantize(case, fp32, folder)) / "model.xml"

    def prepare(self, case: Case) -> None:
        self._file(case)

    def load(self, case: Case, threads: int) -> Loaded:
        return _load(self._file(case), case, threads)


class OpenVinoOnnx(Candidate):
    """OpenVINO on the int8 file that ONNX Runtime's quantizer made: at times faster than NNCF's."""

    name = "OpenVINO on u8s8 ONNX"
    variant = INT8
    packages = ("openvino", *onnx_files.QUANTIZE_PACKAGES)

    def prepare(self, case: Case) -> None:
        onnx_files.u8s8_file(case)

    def load(self, case: Case, threads: int) -> Loaded:
        return _load(onnx_files.u8s8_file(case), case, threads)


def _convert(case: Case, folder: Path) -> None:
    import openvino

    model = openvino.convert_model(case.module(), example_input=case.tensors(), input=[list(x.shape) for x in case.inputs])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _quantize(case: Case, fp32: Path, folder: Path) -> None:
    import nncf
    import openvino

    samples = [sample[0] if len(sample) == 1 else list(sample) for sample in case.calibration()]
    quantized = nncf.quantize(openvino.Core().read_model(fp32 / "model.xml"), nncf.Dataset(samples), subset_size=len(samples))
    openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)


def _load(path: Path, case: Case, threads: int) -> Loaded:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {**SETTINGS, "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    settings: dict[str, Any] = {name.lower(): _text(compiled.get_property(name)) for name in _REPORTED}
    settings["convolutions"] = _convolutions(compiled)
    feed = list(case.inputs)
    return Loaded(lambda: list(request.infer(feed, share_inputs=True).values()), settings)


def _text(value: Any) -> str | int | bool:
    if isinstance(value, (bool, int)):
        return value
    return str(value.get_type_name()) if hasattr(value, "get_type_name") else str(getattr(value, "name", value))


def _convolutions(compiled: Any) -> dict[str, int]:
    """How often each implementation and precision runs a convolution, such as ``brgconv_avx512_vnni_I8 u8``."""
    kinds = Counter[str]()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "Conv" in str(_value(info, "layerType")):
            kinds[f"{_value(info, 'primitiveType')} {_value(info, 'runtimePrecision')}"] += 1
    return dict(kinds.most_common())


def _value(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


def _made_from(*packages: str) -> dict[str, str]:
    return {**{package: installed(package) for package in packages}, "recipe": digest([Path(__file__)])}
