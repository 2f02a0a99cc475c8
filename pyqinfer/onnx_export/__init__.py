"""The engine's graph as an ONNX file: quantize and dequantize pairs around the layers, with a Clip between where the bits are below 8.

``builder`` holds the file that is being written and the order of dimensions of each value, ``rows`` and ``moves`` have a row per op,
``write`` puts the whole together.
"""

from pyqinfer.onnx_export.write import to_onnx

__all__ = ["to_onnx"]
