"""Models given as paths: ONNX files are read, every other kind is refused in a sentence that says how the model gets here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.export import check_examples
from pyqinfer.frontend.sources.onnx import is_onnx

_TORCH = "a file of torch, which can run code and is never opened here: load it yourself and pass the module to pq.convert"
# By suffix, what the file is and what to do.
_OTHERS = {
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"), _TORCH),
    ".pt2": "an exported program of torch: pass torch.export.load(path) to pq.convert",
    ".pte": "an ExecuTorch program, whose graph is lowered already: pass the model that it was made of to pq.convert, before to_edge",
    ".ptl": "a TorchScript program: pass the module that it was made of to pq.convert",
    ".safetensors": "weights without a network: load them into your module and pass that to pq.convert",
    ".gguf": "a GGUF file, which has no graph: load the model in torch (transformers reads GGUF) and pass the module to pq.convert",
    ".tflite": "a TFLite model: export it as ONNX (tf2onnx --tflite) and convert that file",
    ".pb": "a TensorFlow graph: export it as ONNX (tf2onnx) and convert that file",
    ".xml": "an OpenVINO model: convert the ONNX file or the torch module that nncf.quantize gives before it becomes OpenVINO IR",
    ".mlmodel": "a Core ML model: convert the torch module or the ONNX file that it was made of",
    ".mlpackage": "a Core ML model: convert the torch module or the ONNX file that it was made of",
    ".engine": "a TensorRT engine: convert the ONNX file that it was made of",
    ".pqi": "a converted model already: pq.load reads it",
}


def load_model_file(path: str | os.PathLike[str], external_data: bool = False) -> Any:
    """A torch module of an ONNX file.

    Args:
        path: the file; what it is is told by its suffix.
        external_data: whether an ONNX file's constants are read from other files below its folder.

    Raises:
        UnsupportedError: another kind of file. The errors of reading an ONNX file pass through.
    """
    suffix = Path(path).suffix.lower()
    if suffix != ".onnx":
        raise UnsupportedError(
            f"{os.fspath(path)}: {_OTHERS.get(suffix, 'not an ONNX file (.onnx), the only files of other tools that are read')}"
        )
    from pyqinfer.frontend.sources.onnx.loading import load_onnx

    return load_onnx(path, external_data)


def with_examples(model: Any, examples: Any) -> Any:
    """The example inputs to convert a model with: those given, else those that a module of an ONNX file makes itself, else None."""
    if not is_onnx(model):
        return examples
    model.examples = model.example_inputs() if examples is None else check_examples(examples)
    return model.examples
