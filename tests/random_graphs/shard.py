"""A share of the random networks of `make test-all`: the same ones for the same number, in a process of its own."""

from __future__ import annotations

import traceback
import warnings

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from random_graphs.check import check
from random_graphs.draw import nets
from random_graphs.net import Net

NETWORKS = 50


def run(number: int, shrink: bool = False) -> str:
    """Check the networks of one shard. "" or the failure, with the expression that builds its network; ``shrink``: the smallest such."""
    torch.set_num_threads(1)
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    @seed(number)
    @settings(max_examples=NETWORKS, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    @given(nets())
    def checked(net: Net) -> None:
        check(net)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checked()
        except Exception:
            return f"shard {number} (again and smaller: PYTHONPATH=.:tests python -m random_graphs {number})\n{traceback.format_exc()}"
    return ""
