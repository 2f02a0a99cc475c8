"""Checkpoints of a training: everything that a later process needs to reach the same weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

_FORMAT = "pyqinfer-training/1"


def save_checkpoint(
    path: str | os.PathLike[str], settings: str, epoch: int, module: nn.Module, optimizer: torch.optim.Optimizer, rows: Sequence[Any]
) -> None:
    """Write atomically. ``epoch``: how many are done; ``rows``: what was measured of each."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    state = {"format": _FORMAT, "settings": settings, "epoch": epoch, "module": module.state_dict(), "optimizer": optimizer.state_dict()}
    part = target.with_name(target.name + ".part")
    torch.save({**state, "rows": list(rows)}, part)
    os.replace(part, target)


def load_checkpoint(
    path: str | os.PathLike[str] | None, settings: str, module: nn.Module, optimizer: torch.optim.Optimizer, device: str
) -> tuple[int, list[Any]]:
    """Go on from a file, if there is one: how many epochs are done, and what was measured of each.

    Raises:
        ValueError: the file is no checkpoint, or one of other settings. RuntimeError: it is of another network.
    """
    if path is None or not Path(path).exists():
        return 0, []
    state = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"checkpoint {os.fspath(path)}: not a training of this version; move it away to start anew")
    if state["settings"] != settings:
        raise ValueError(f"checkpoint {os.fspath(path)}: belongs to a training with other settings; move it away to start anew")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"]), list(state["rows"])
