"""Quantization of torch models: the traced graph, observers, and the only place that emits quantize and dequantize nodes."""

from pyqinfer.quantization.api import Method, Task, quantize

__all__ = ["Method", "Task", "quantize"]
