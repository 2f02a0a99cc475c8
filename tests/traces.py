"""Traces that are made once: torch.export takes ten times as long as all the rest of quantizing or converting a small network."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer.frontend.functional import export_functional


@contextmanager
def traced_once(*models: nn.Module) -> Iterator[None]:
    """While this lasts, copies of the first trace of each of these models are taken for the next ones. The models must stay as they are."""
    kept: dict[tuple[object, ...], GraphModule] = {}

    def trace(model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True, dynamic_size: bool = False) -> GraphModule:
        if not any(model is known for known in models):
            return export_functional(model, examples, dynamic_batch, dynamic_size)
        key = (id(model), dynamic_batch, dynamic_size, tuple((x.shape, x.stride(), x.dtype) for x in examples))
        if key not in kept:
            kept[key] = export_functional(model, examples, dynamic_batch, dynamic_size)
        with warnings.catch_warnings():
            # torch 2.13 copies its own deprecated classes here.
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
            return copy.deepcopy(kept[key])

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("pyqinfer.") and getattr(module, "export_functional", None) is export_functional:
                stack.enter_context(patch.object(module, "export_functional", trace))
        yield
