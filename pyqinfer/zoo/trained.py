"""Checkpoints that come with the package: arrays in ``.npz`` (no pickle), with their training record beside them as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pyqinfer.zoo import mobilenet, resnet

WEIGHTS = Path(__file__).parent / "weights"
_MODELS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2_small": mobilenet.mobilenet_v2_small,
    "resnet20": resnet.resnet20,
    "resnet20_wide": resnet.resnet20_wide,
}


def trained_names() -> list[str]:
    """Names that `load_trained` knows."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def training_record(name: str) -> dict[str, Any]:
    """How checkpoint `name` was made: model, data, settings, fonts, and its accuracy on the validation and test fonts.

    Raises:
        ValueError: no such checkpoint; lists those there are.
    """
    if name not in trained_names():
        raise ValueError(f"trained model {name!r}: expected one of {', '.join(trained_names())}; a source checkout has more than a wheel")
    record: dict[str, Any] = json.loads((WEIGHTS / f"{name}.json").read_text())
    return record


def load_trained(name: str) -> nn.Module:
    """The model of checkpoint `name` with its weights, in eval mode. Raises ValueError for an unknown name."""
    record = training_record(name)
    model = _MODELS[record["model"]](**record["arguments"])
    with np.load(WEIGHTS / f"{name}.npz", allow_pickle=False) as arrays:
        model.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files})
    return model.eval()


def save_trained(name: str, model: nn.Module, record: dict[str, Any], directory: Path = WEIGHTS) -> None:
    """Write ``<name>.npz`` (the state dict, float32 arrays and int64 counters) and ``<name>.json`` (`record`)."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {key: value.detach().cpu().contiguous().numpy() for key, value in model.state_dict().items()}
    np.savez_compressed(directory / f"{name}.npz", **arrays)
    (directory / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
