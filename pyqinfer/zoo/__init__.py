"""Model definitions, trained checkpoints and small data sets.

Models need torch, glyphs need Pillow and Debian's fonts, digits need scikit-learn; each is imported on first use, so
``import pyqinfer.zoo`` needs numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyqinfer.zoo.digits import digits
from pyqinfer.zoo.fonts import MissingFontsError, missing_packages
from pyqinfer.zoo.glyphs import glyphs

if TYPE_CHECKING:
    from pyqinfer.zoo.mobilenet import mobilenet_v2, mobilenet_v2_small
    from pyqinfer.zoo.randomize import randomize_batchnorm
    from pyqinfer.zoo.resnet import resnet18, resnet20, resnet20_wide, resnet50
    from pyqinfer.zoo.segmentation import unet
    from pyqinfer.zoo.trained import load_trained, trained_names, training_record
    from pyqinfer.zoo.vit import vit_small

_NEEDS_TORCH = {
    "load_trained": "trained",
    "mobilenet_v2": "mobilenet",
    "mobilenet_v2_small": "mobilenet",
    "randomize_batchnorm": "randomize",
    "resnet18": "resnet",
    "resnet20": "resnet",
    "resnet20_wide": "resnet",
    "resnet50": "resnet",
    "trained_names": "trained",
    "training_record": "trained",
    "unet": "segmentation",
    "vit_small": "vit",
}

__all__ = [
    "MissingFontsError",
    "digits",
    "glyphs",
    "load_trained",
    "missing_packages",
    "mobilenet_v2",
    "mobilenet_v2_small",
    "randomize_batchnorm",
    "resnet18",
    "resnet20",
    "resnet20_wide",
    "resnet50",
    "trained_names",
    "training_record",
    "unet",
    "vit_small",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
