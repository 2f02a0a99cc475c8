"""Quantization methods, one file each. A method is a dataclass with ``quantize(task)``; see :class:`pyqinfer.quantization.Method`."""
