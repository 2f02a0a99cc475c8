"""Random networks, fp32 and quantized: engine = torch within the bounds, engine = twin = every ISA byte for byte."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import shard
from random_graphs.check import check
from random_graphs.draw import nets
from random_graphs.net import Net

NETWORKS = 2000


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(nets())
@pytest.mark.filterwarnings("ignore")  # of torch.export, and of ours for a fixed batch
def test_random_networks_agree(net: Net) -> None:
    check(net)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_random_networks_agree(capsys: pytest.CaptureFixture[str]) -> None:
    start, failures, shards = time.monotonic(), [], NETWORKS // shard.NETWORKS
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done, future in enumerate(as_completed([pool.submit(shard.run, number) for number in range(shards)]), 1):
            if future.result():
                failures.append(future.result())
            with capsys.disabled():
                print(
                    f"\n{done * shard.NETWORKS} of {NETWORKS} random networks, {time.monotonic() - start:.0f} s, {len(failures)} failures",
                    end="",
                )
    assert not failures, "\n\n".join(failures)
