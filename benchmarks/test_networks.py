"""Latency of whole networks, batch 1, one thread: torch, the engine in float, the engine in int8, in one run.

Compare ratios within a run: `pytest benchmarks --benchmark-only --benchmark-group-by=param:network`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pyqinfer as pq


@pytest.mark.parametrize("candidate", ["torch-fp32", "engine-fp32", "engine-int8"])
def test_latency(benchmark: Any, network: dict[str, Any], candidate: str) -> None:
    model, x = network[candidate], network["input"]
    benchmark.group = network["name"]
    if isinstance(model, pq.Model):
        session = pq.Session(model, threads=1)
        array = x.numpy()
        benchmark.extra_info.update(isa=session.isa, bops=model.bops(), bytes=model.nbytes, cpu=pq.cpu_info()["brand"])
        benchmark.pedantic(session, args=(array,), rounds=30, warmup_rounds=3)
    else:
        with torch.inference_mode():
            benchmark.pedantic(model, args=(x,), rounds=30, warmup_rounds=3)
