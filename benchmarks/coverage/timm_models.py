"""A small member of each of timm's families: one model for each of its modules that has models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from benchmarks.coverage.case import Built, Case

# Families whose names do not say which member is small.
_SMALL = {
    "byoanet": "haloregnetz_b",
    "cspnet": "cs3darknet_focus_s",
    "dla": "dla46x_c",
    "fasternet": "fasternet_t0",
    "iformer": "iformer_s",
    "levit": "levit_128s",
    "naflexvit": "naflexvit_base_patch16_gap",
    "qwen3_vit": "qwen3_vit_88m",
    "res2net": "res2net50_48w_2s",
    "resnest": "resnest14d",
    "sequencer": "sequencer2d_s",
    "tresnet": "tresnet_m",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vovnet": "ese_vovnet19b_slim_dw",
}
# Members of more than 80 million parameters, with fewer of their blocks.
_FEWER: Mapping[str, Mapping[str, Any]] = {
    name: {"depth": 2}
    for name in (
        "deepseek_vit_412m",
        "gemma4_vit_167m",
        "qwen3_vit_88m",
        "naflexvit_base_patch16_gap",
        "beitv2_base_patch16_224",
        "samvit_base_patch16_224",
    )
}
# Images larger than the first number become those of the second: they would say nothing new and take longer.
_LARGE_IMAGE, _USUAL_IMAGE = 256, 224


def _build(name: str) -> Built:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **_FEWER.get(name, {})).eval()
    channels, height, width = model.default_cfg.get("input_size", (3, 224, 224))
    if max(height, width) > _LARGE_IMAGE and not model.default_cfg.get("fixed_input_size"):
        height = width = _USUAL_IMAGE
    return Built(model, (torch.randn(2, channels, height, width),))


def _families() -> dict[str, str]:
    """One model a module of timm's: the one whose name says the least size, where ``_SMALL`` has no other."""
    import timm

    members = {module: timm.list_models(module=module) for module in timm.list_modules()}
    return {module: _SMALL.get(module) or min(names, key=_size_rank) for module, names in members.items() if names}


def _size_rank(name: str) -> tuple[int, int, str]:
    words = (
        "test_",
        "atto",
        "femto",
        "pico",
        "nano",
        "xxs",
        "xx_small",
        "_xs",
        "extra_small",
        "zepto",
        "tiny",
        "_s_",
        "small",
        "_0",
        "18",
        "b0",
    )
    rank = next((i for i, word in enumerate(words) if word in name), len(words))
    numbers = [int(n) for n in re.findall(r"\d+", name)]
    return rank, min(numbers, default=0), name


def cases() -> list[Case]:
    """Every family as a case."""
    return [Case("timm", name, partial(_build, name)) for name in sorted(set(_families().values()))]
