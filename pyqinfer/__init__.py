"""pyqinfer: quantized torch models, fast and bit-exact on CPUs.

``import pyqinfer as pq`` needs numpy only; torch is imported by the names that work on torch models
(``quantize``, ``convert``, ``compare``, ``PTQ``, ``zoo``) when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyqinfer._core import CancelFlag, __version__, cpu_info
from pyqinfer.bits import BitConfig
from pyqinfer.budget import Budget
from pyqinfer.errors import CancelledError, ConversionError, IntegrityError, ModelFormatError, UnsupportedError
from pyqinfer.images import ImageInput
from pyqinfer.install import get_cmake_dir, get_include, missing_extra
from pyqinfer.methods.registry import METHODS as _METHODS
from pyqinfer.model import Model, load
from pyqinfer.predictor import Predictor
from pyqinfer.report import Report
from pyqinfer.session import RunOptions, Session

if TYPE_CHECKING:
    from pyqinfer import train, zoo
    from pyqinfer.allocation.api import allocate
    from pyqinfer.conversion import convert
    from pyqinfer.frontend.codes import FakeQuant
    from pyqinfer.frontend.sources.fake_quant import register_fake_quant
    from pyqinfer.measure.benchmark import benchmark
    from pyqinfer.measure.compare import compare
    from pyqinfer.measure.profile import profile
    from pyqinfer.methods.registry import *  # noqa: F403  (the classes of all methods)
    from pyqinfer.quantization import quantize

# Name -> module that defines it (the module itself where the names are equal): loaded at first use.
_LAZY = {
    "FakeQuant": "pyqinfer.frontend.codes",
    "allocate": "pyqinfer.allocation.api",
    "benchmark": "pyqinfer.measure.benchmark",
    "compare": "pyqinfer.measure.compare",
    "convert": "pyqinfer.conversion",
    "profile": "pyqinfer.measure.profile",
    "quantize": "pyqinfer.quantization",
    "register_fake_quant": "pyqinfer.frontend.sources.fake_quant",
    "train": "pyqinfer.train",
    "zoo": "pyqinfer.zoo",
    **{method.name: method.module for method in _METHODS},
}

__all__ = [
    "BitConfig",
    "Budget",
    "CancelFlag",
    "CancelledError",
    "ConversionError",
    "FakeQuant",
    "ImageInput",
    "IntegrityError",
    "Model",
    "ModelFormatError",
    "Predictor",
    "Report",
    "RunOptions",
    "Session",
    "UnsupportedError",
    "__version__",
    "allocate",
    "benchmark",
    "compare",
    "convert",
    "cpu_info",
    "get_cmake_dir",
    "get_include",
    "load",
    "profile",
    "quantize",
    "register_fake_quant",
    "train",
    "zoo",
]
__all__ += [method.name for method in _METHODS]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pyqinfer' has no attribute {name!r}")
    try:
        module = import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        hint = missing_extra(error)
        if hint is None:
            raise
        raise ImportError(f"pyqinfer.{name}: {hint}") from None
    value = module if module.__name__ == f"pyqinfer.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
