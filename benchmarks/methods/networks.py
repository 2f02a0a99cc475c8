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
    """
    Args:
        name: short, printed. title: of tables and pictures.
        model: in float, eval mode. calibration: batches of images without labels. data: labelled test images.
        torch_images: how many of them torch runs as well; None for all.
        record: how it was trained, for the JSON.
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


# Checkpoint -> title, and how many images torch runs as well: the wide network costs 16 times as much as the others.
GLYPHS: dict[str, tuple[str, int | None]] = {
    "resnet20_glyphs": ("ResNet-20, glyphs 28x28", None),
    "resnet20_wide_glyphs": ("ResNet-20 of double width, glyphs 64x64", 2000),
    "mobilenet_v2_small_glyphs": ("MobileNetV2 (width 0.5), glyphs 28x28", None),
}


def glyph_network(name: str, images: int | None, calibration: int) -> Network:
    """A checkpoint of the zoo. `images`: of the test set, from the first; None for all. `calibration`: images of the training fonts."""
    record = zoo.training_record(name)
    size = int(record["data"]["size"])
    title, torch_images = GLYPHS[name]
    test = Arrays(*zoo.glyphs("test", size)).first(images)
    train = torch.from_numpy(zoo.glyphs("train", size)[0][:calibration])
    return Network(name, title, zoo.load_trained(name), list(train.split(_CALIBRATION_BATCH)), test, torch_images, record)


def folder_network(reference: str, folder: Path, size: int, images: int | None, calibration: int) -> Network:
    """A model of the user's (``module:callable`` or ``file.py:callable``) with a folder of images per class.

    Calibration takes images of the same folder, without their labels; leave them out of `folder` where that matters.
    """
    model = _load(reference)()
    data = ClassFolder(folder, size, images)
    unlabelled = torch.cat([torch.from_numpy(batch) for batch, _ in ClassFolder(folder, size, calibration).batches(_CALIBRATION_BATCH)])
    name = reference.rpartition(":")[2]
    record = {"model": reference, "data": {"folder": str(folder), "size": size, "classes": len(data.classes)}}
    return Network(name, f"{name}, {folder.name}", model.eval(), list(unlabelled.split(_CALIBRATION_BATCH)), data, None, record)


def _load(reference: str) -> Callable[[], nn.Module]:
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
