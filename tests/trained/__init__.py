"""Weights of the small trained networks that tests compare with numbers, as float16 in ``.npz`` files.

They are checked in because torch's float kernels differ between processors: trained on the spot, another machine gets another network,
and a bound that holds for one may fail for the next. `python -m trained` (with PYTHONPATH=tests) makes them again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

_FOLDER = Path(__file__).parent


def load(name: str, net: nn.Module) -> nn.Module:
    """``net`` with the weights of ``name``, in evaluation mode."""
    with np.load(_FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        state = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    net.load_state_dict(state)  # which turns float16 into the parameters' float32
    return net.eval()


def save(name: str, net: nn.Module) -> None:
    state = {key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
    np.savez_compressed(_FOLDER / f"{name}.npz", **{key: value.numpy() for key, value in state.items()})
