"""What all tests share: threads, random state, and torchao's export of patterns."""

from __future__ import annotations

import os

# The networks here are so small that more threads would only wait for each other, and each of pytest-xdist's workers has a core of its own.
# Both torch and NumPy read these variables when they are loaded. Other counts stand in for other machines (.ci/other-machines).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx import GraphModule


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from one random state, whatever ran before it and in which process."""
    torch.manual_seed(0)


@pytest.fixture
def only_patterns_that_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantization-aware training in torchao without needless work: it exports 30 patterns for each kind of convolution, even for kinds
    that the graph does not hold, which takes 20 seconds."""
    qat = pytest.importorskip("torchao.quantization.pt2e.qat_utils")

    def where_it_occurs(replace: Callable[..., GraphModule]) -> Callable[..., GraphModule]:
        def replaced(graph: GraphModule, convolution: Callable[..., Any], *args: Any, **kwargs: Any) -> GraphModule:
            occurs = any(str(node.target).startswith(f"aten.{convolution.__name__}.") for node in graph.graph.nodes)
            return replace(graph, convolution, *args, **kwargs) if occurs else graph

        return replaced

    for name in ("_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper"):
        monkeypatch.setattr(qat, name, where_it_occurs(getattr(qat, name)))
