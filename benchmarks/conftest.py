"""Models and inputs of the benchmarks, made once per run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import pyqinfer as pq


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=["resnet18", "resnet50"])
def network(request: pytest.FixtureRequest) -> dict[str, object]:
    """Torch module, int8 and float engine models of a 224x224 network with random weights and realistic BatchNorm statistics."""
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    module = getattr(pq.zoo, request.param)()
    pq.zoo.randomize_batchnorm(module, seed=0)
    module.eval()
    quantized = pq.quantize(module, pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    return {
        "name": request.param,
        "input": x,
        "torch-fp32": module,
        "engine-fp32": pq.convert(module, example_inputs=(x,)),
        "engine-int8": pq.convert(quantized, example_inputs=(x,)),
    }
