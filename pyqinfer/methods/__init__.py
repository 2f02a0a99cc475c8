"""Quantization methods, one file each. A method is a dataclass with ``quantize(task)``; see :class:`pyqinfer.quantization.Method`."""

from pyqinfer.methods.ompq import OMPQ
from pyqinfer.methods.ptq import PTQ
from pyqinfer.methods.zeroq import ZeroQ

__all__ = ["OMPQ", "PTQ", "ZeroQ"]
