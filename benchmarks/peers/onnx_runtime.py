"""ONNX Runtime, fp32 and int8 by its own quantizer."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.peers import onnx_files
from benchmarks.peers.candidate import FP32, INT8, Candidate, Loaded
from benchmarks.peers.case import Case


class OnnxRuntime(Candidate):
    """``fp32``: torch's export as it is. ``int8``: quantize_static, QDQ, u8 activations, s8 weights per channel."""

    packages = onnx_files.QUANTIZE_PACKAGES

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.name = "ONNX Runtime" if variant == FP32 else "ONNX Runtime u8s8"

    def _file(self, case: Case) -> Path:
        return onnx_files.u8s8_file(case) if self.variant == INT8 else onnx_files.fp32_file(case)

    def prepare(self, case: Case) -> None:
        self._file(case)

    def load(self, case: Case, threads: int) -> Loaded:
        import onnxruntime

        path = self._file(case)
        options = session_options(threads)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = case.feed()
        settings = {
            "threads": options.intra_op_num_threads,
            "providers": session.get_providers(),
            "graph_optimization": str(options.graph_optimization_level).rpartition(".")[2],
            "executed_ops": _executed_ops(path),
        }
        return Loaded(lambda: session.run(None, feed), settings)


class OnnxRuntimeDynamic(OnnxRuntime):
    """``quantize_dynamic``, matrix products only: what is usual for transformers, and exact enough without calibration."""

    def __init__(self) -> None:
        super().__init__(INT8)
        self.name = "ONNX Runtime dynamic"

    def _file(self, case: Case) -> Path:
        return onnx_files.dynamic_file(case)


def session_options(threads: int) -> Any:
    """Options for ``threads`` threads inside an operator, operators one after another, and no messages but errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return options


def _executed_ops(path: Path) -> dict[str, int]:
    """Kinds of nodes after ONNX Runtime's optimizations: shows whether convolutions really run in integers (QLinearConv)."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(1)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    return dict(Counter(node.op_type for node in optimized.graph.node).most_common())
