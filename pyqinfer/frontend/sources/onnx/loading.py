"""ONNX files as torch modules."""

from __future__ import annotations

import os

from pyqinfer.frontend.sources.onnx.module import OnnxModule
from pyqinfer.frontend.sources.onnx.reading import read_file


def load_onnx(path: str | os.PathLike[str], external_data: bool = False) -> OnnxModule:
    """A torch module of an ONNX file, which :func:`pyqinfer.convert` and :func:`pyqinfer.quantize` take like any other.

    Args:
        path: the file. Nothing in it is run.
        external_data: whether constants are read from other files below the model's folder.

    Raises:
        OSError: the file cannot be read. ModelFormatError: it is no valid ONNX model. UnsupportedError: every operation that the engine
        does not have, or what is beyond a limit. ImportError: the onnx package is not installed.
    """
    return OnnxModule(read_file(path, external_data))
