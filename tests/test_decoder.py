"""A block of a decoder whose linear layers have weights of 2 to 4 bits from torchao: cache in, cache out, one row and many."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin
from numpy.typing import NDArray
from torch import Tensor, nn

from pyqinfer import cpu_info
from pyqinfer.conversion import convert
from pyqinfer.model import Model
from pyqinfer.session import Session

ao = pytest.importorskip("torchao.quantization")
granularity = pytest.importorskip("torchao.quantization.granularity")

WIDTH, HEADS, HIDDEN, PAST = 128, 4, 320, 19
LINEAR_LAYERS = 7


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of ``x`` [N, heads, length, depth]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


class DecoderBlock(nn.Module):
    """Norm, attention over a cache, norm, gated MLP, as in Llama. The new cache is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, length, _ = x.shape
        h = self.attention_norm(x)
        heads = [layer(h).view(n, length, HEADS, WIDTH // HEADS).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        keys = torch.cat([past_keys, rotated(heads[1], cos, sin)], dim=2)
        values = torch.cat([past_values, heads[2]], dim=2)
        scores = rotated(heads[0], cos, sin) @ keys.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + mask
        y = (F.softmax(scores, dim=-1) @ values).transpose(1, 2).reshape(n, length, WIDTH)
        x = x + self.out(y)
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h)), keys, values


# For each name: torchao's configuration, and the bits in which the codes stay in memory.
WEIGHTS: dict[str, tuple[Any, int]] = {
    "int4 in groups of 32": (functools.partial(ao.Int8DynamicActivationIntxWeightConfig, torch.int4, granularity.PerGroup(32)), 4),
    "int4 per channel": (functools.partial(ao.Int8DynamicActivationIntxWeightConfig, torch.int4, granularity.PerAxis(0)), 4),
    "int3 in groups of 64": (functools.partial(ao.Int8DynamicActivationIntxWeightConfig, torch.int3, granularity.PerGroup(64)), 4),
    "int2 in groups of 32": (functools.partial(ao.Int8DynamicActivationIntxWeightConfig, torch.int2, granularity.PerGroup(32)), 2),
    "int2 per channel": (functools.partial(ao.Int8DynamicActivationIntxWeightConfig, torch.int2, granularity.PerAxis(0)), 2),
}


@functools.cache
def block(weights: str) -> nn.Module:
    torch.manual_seed(0)
    net = DecoderBlock().eval()
    with torch.no_grad():
        for norm in (net.attention_norm, net.mlp_norm):
            norm.weight.uniform_(0.5, 1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ao.quantize_(net, WEIGHTS[weights][0]())
    return net


def inputs(rows: int, past: int = PAST, seed: int = 1) -> tuple[Tensor, ...]:
    """Tokens at positions ``past`` and following, which see the cache and what stands before them."""
    g = torch.Generator().manual_seed(seed)
    depth = WIDTH // HEADS
    angle = torch.arange(past, past + rows)[:, None] * 10000.0 ** (-torch.arange(0, depth, 2) / depth).repeat(2)
    hidden = torch.ones(rows, past + rows, dtype=torch.bool).triu(past + 1)
    mask = torch.zeros(rows, past + rows).masked_fill(hidden, -1e9)
    cache = [torch.randn(1, HEADS, past, depth, generator=g) for _ in range(2)]
    return torch.randn(1, rows, WIDTH, generator=g), angle.cos(), angle.sin(), mask, *cache


@functools.cache
def converted(weights: str, rows: int, past: int = PAST) -> Model:
    return convert(block(weights), example_inputs=inputs(rows, past), fallback="float")


def run(model: Model, x: tuple[Tensor, ...], **options: Any) -> list[NDArray[np.float32]]:
    got = Session(model, **options).run({name: value.numpy() for name, value in zip(model.inputs, x, strict=True)})
    return [got[name] for name in model.outputs]


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_isa_and_thread_count_gives_the_bits_of_the_twin(weights: str, rows: int) -> None:
    model, x = converted(weights, rows), inputs(rows, seed=2)
    assert_engine_equals_twin(model, *x)
    expected = run(model, x, threads=1, isa="reference")
    for isa in cpu_info()["isas"]:
        for threads in (1, 2):
            for got, want in zip(run(model, x, threads=threads, isa=isa), expected, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{isa}, {threads} threads")


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_block_and_its_cache_agree_with_torch(weights: str, rows: int) -> None:
    x = inputs(rows)
    with torch.no_grad():
        expected = block(weights)(*x)
    for got, want in zip(run(converted(weights, rows), x, threads=1), expected, strict=True):
        assert got.shape == tuple(want.shape)
        # A value next to a tie may get the neighbouring code where an op before it rounds otherwise.
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-2 * float(want.abs().max()))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_linear_layers_run_over_codes_that_stay_packed(weights: str) -> None:
    model = converted(weights, 1)
    layers = [layer for layer in Session(model, threads=1).layers() if "dynamic" in layer["executed_as"]]
    assert len(layers) == LINEAR_LAYERS
    packed = [isa for isa in cpu_info()["isas"] if isa.startswith(("avx", "amx"))]
    if not packed:
        pytest.skip("no kernels for packed codes on this CPU")
    assert {layer["executed_as"] for layer in layers} == {f"u8s{WEIGHTS[weights][1]}-dynamic-{packed[-1]}"}


def test_tokens_one_by_one_give_the_bits_of_all_at_once() -> None:
    """The cache that one call returns is the next call's; a token's result does not depend on those that stand beside it."""
    weights = "int4 in groups of 32"
    x, _, _, _, keys, values = inputs(2)
    together = run(converted(weights, 2), inputs(2), threads=1)
    rows = []
    for token in range(2):
        past = PAST + token
        step = (x[:, token : token + 1], *inputs(1, past)[1:4], keys, values)
        y, *cache = run(converted(weights, 1, past), step, threads=1)
        rows.append(y)
        keys, values = (torch.from_numpy(part) for part in cache)
    for got, want in zip((np.concatenate(rows, axis=1), keys.numpy(), values.numpy()), together, strict=True):
        np.testing.assert_array_equal(got, want)
