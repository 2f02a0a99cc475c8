"""The smallest member of each of timm's families."""

from __future__ import annotations

import re
from functools import partial

import torch

from benchmarks.coverage.case import Built, Case

# Networks of more parameters are other sizes of a family that is tried already, or too large for two cores.
_MOST_PARAMETERS = 60_000_000


def _build(name: str) -> Built:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    size = model.default_cfg.get("input_size", (3, 224, 224))
    return Built(model, (torch.randn(2, *size),))


def _families() -> dict[str, str]:
    """One model a module of timm's: the one whose name says the least size."""
    import timm

    families: dict[str, str] = {}
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            families[module] = min(names, key=_size_rank)
    return families


def _size_rank(name: str) -> tuple[int, int, str]:
    words = ("test_", "atto", "femto", "pico", "nano", "xxs", "xx_small", "_xs", "extra_small", "zepto", "tiny", "_s_", "small", "_0", "18", "b0")
    rank = next((i for i, word in enumerate(words) if word in name), len(words))
    numbers = [int(n) for n in re.findall(r"\d+", name)]
    return rank, min(numbers, default=0), name


def cases() -> list[Case]:
    """Every family as a case."""
    return [Case("timm", name, partial(_build, name)) for name in sorted(set(_families().values()))]
