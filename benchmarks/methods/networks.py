"""The networks that the experiment quantizes, each with calibration images and labelled test images."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer import zoo
from pyqinfer.study.labelled import Arrays, ClassFolder, Labelled

_CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Network:
    """A network of the experiment with its data.

    Args:
        name: short name, printed.
        title: heading of tables and pictures.
        model: float model in eval mode.
        calibration: batches of images without labels.
        data: labelled test images.
        torch_images: how many of the test images torch runs as well; None for all.
        record: how the network was trained, for the JSON.
    """

    name: str
    title: str
    model: nn.Module
    calibration: list[Tensor]
    data: Labelled
    torch_images: int | None
    record: dict[str, Any]

    @property
    def example(self) -> tuple[Tensor]:
        return (self.calibration[0][:1],)


@dataclass(frozen=True)
class _Glyphs:
    """``torch_images``: that of `Network`. ``calibration``: number of calibration images."""

    title: str
    torch_images: int | None = None
    calibration: int = 512


# Checkpoints of the zoo. An image costs the wide network 16 times as much as the others.
GLYPHS = {
    "resnet20_glyphs": _Glyphs("ResNet-20, glyphs 28x28"),
    "mobilenet_v2_small_glyphs": _Glyphs("MobileNetV2 (width 0.5), glyphs 28x28"),
    "resnet20_wide_glyphs": _Glyphs("ResNet-20 of double width, glyphs 64x64", torch_images=2000, calibration=128),
}


def glyph_network(name: str, images: int | None) -> Network:
    """A checkpoint of the zoo with the first `images` of its test set, or all if None. Calibration images are of the training fonts."""
    record, settings = zoo.training_record(name), GLYPHS[name]
    size = int(record["data"]["size"])
    test = Arrays(*zoo.glyphs("test", size)).first(images)
    train = torch.from_numpy(zoo.glyphs("train", size)[0][: settings.calibration])
    model = zoo.load_trained(name)
    return Network(name, settings.title, model, list(train.split(_CALIBRATION_BATCH)), test, settings.torch_images, record)


def folder_network(reference: str, folder: Path, size: int, images: int | None, calibration: int, weights: str | None = None) -> Network:
    """A model of the user's (``module:callable`` or ``file.py:callable``) with a folder of images per class.

    ``weights``: a file of a state dict, or what the callable takes as ``weights=``, as those of torchvision do.

    Calibration takes images of the same folder, without their labels; leave them out of `folder` where that matters.
    """
    model = _model(reference, weights)
    data = ClassFolder(folder, size, images)
    unlabelled = torch.cat([torch.from_numpy(batch) for batch, _ in ClassFolder(folder, size, calibration).batches(_CALIBRATION_BATCH)])
    name = reference.rpartition(":")[2]
    record = {"model": reference, "weights": weights, "data": {"folder": str(folder), "size": size, "classes": len(data.classes)}}
    return Network(name, f"{name}, {folder.name}", model.eval(), list(unlabelled.split(_CALIBRATION_BATCH)), data, None, record)


def _model(reference: str, weights: str | None) -> nn.Module:
    make = _load(reference)
    if weights is None:
        return make()
    if not Path(weights).is_file():
        return make(weights=weights)
    model = make()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model


def _load(reference: str) -> Callable[..., nn.Module]:
    place, separator, attribute = reference.rpartition(":")
    if not separator or not place or not attribute:
        raise ValueError(f"--model {reference!r}: expected module:callable or file.py:callable")
    if not place.endswith(".py"):
        return getattr(import_module(place), attribute)  # type: ignore[no-any-return]
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, attribute)  # type: ignore[no-any-return]
