"""Every method on a network of less than 100,000 parameters: under a minute of one core, and twice the same bytes."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.quantization.distill import Distillation
from pyqinfer.zoo.resnet import SmallImageResNet

SECONDS = 60
METHODS = {
    "ptq 8/8": (pq.PTQ(), None),
    "ptq 4/8": (pq.PTQ(weight_bits=4), None),
    "ptq 4/4, learned rounding": (pq.PTQ(weight_bits=4, act_bits=4, rounding="learned"), None),
    "zeroq 4/4": (pq.ZeroQ(weight_bits=4, act_bits=4), None),
    "zeroq, as released": (pq.ZeroQ(distillation=Distillation(64, 500, "image", schedule="plateau", init="repository")), None),
    "zeroq, bits": (pq.ZeroQ(), pq.Budget(avg_weight_bits=4)),
    "zeroq, BOPs": (pq.ZeroQ(), pq.Budget(bops=0.016)),
    "ompq, bits": (pq.OMPQ(), pq.Budget(avg_weight_bits=4)),
    "ompq, BOPs": (pq.OMPQ(), pq.Budget(bops=0.016)),
    "ompq, learned rounding": (pq.OMPQ(rounding="learned"), pq.Budget(avg_weight_bits=4)),
    "zeroq, ms": (pq.ZeroQ(), pq.Budget(latency_ms=1000.0)),
    "ompq, ms": (pq.OMPQ(), pq.Budget(latency_ms=1000.0)),
}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """ResNet-20 of half width: 22 layers that have bits."""
    torch.manual_seed(0)
    net = zoo.randomize_batchnorm(SmallImageResNet(8, 3, 3, 10), 0, images=torch.randn(64, 3, 32, 32))
    assert 50_000 < sum(parameter.numel() for parameter in net.parameters()) < 100_000
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_less_than_a_minute_and_gives_the_same_twice(name: str, net: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    method, budget = METHODS[name]
    images = torch.randn(512, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = []
        for _ in range(2):
            start = time.process_time()  # a busy machine does not count
            graph = pq.quantize(net, method, example_inputs=(images[:1],), calibration=images.split(64), budget=budget)
            models.append(pq.convert(graph, example_inputs=(images[:1],)))
            seconds = time.process_time() - start
            with capsys.disabled():
                print(f"\n{name}: {seconds:.1f} s of one core", end="")
            assert seconds < SECONDS
    finally:
        torch.set_num_threads(threads)
    if budget is None or "latency_ms" not in budget.limits:
        assert models[0].to_bytes() == models[1].to_bytes()
