"""torch's attention and transformer modules, and hand-written ones: against torch, the NumPy twin and every ISA; the batch is free."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_transformers import MASK, check, images, ops
from torch import Tensor, nn

from pyqinfer.conversion import convert
from pyqinfer.session import Session


class Attention(nn.Module):
    """nn.MultiheadAttention of one tensor, or of three."""

    def __init__(self, need_weights: bool, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, **options)
        self.need_weights = need_weights
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Any:
        y, weights = self.attention(
            x, x if key is None else key, x if value is None else value, attn_mask=self.mask, need_weights=self.need_weights
        )
        return (y, weights) if self.need_weights else y


class CausalBlock(nn.Module):
    """nanoGPT's block: one layer for query, key and value, chunks of it, and a mask written into the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)
        self.register_buffer("mask", MASK)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (t.view(n, length, 4, 4).transpose(1, 2) for t in self.qkv(self.norm(x)).split(width, dim=2))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(4))
        weights = F.softmax(scores.masked_fill(~self.mask[:length, :length], float("-inf")), dim=-1)
        return x + self.out((weights @ v).transpose(1, 2).contiguous().view(n, length, width))


BATCH_FIRST, SEQUENCE_FIRST = ((2, 6, 16),), ((6, 2, 16),)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "attention": (lambda: Attention(False, batch_first=True), BATCH_FIRST),
    "attention with its weights": (lambda: Attention(True, batch_first=True), BATCH_FIRST),
    "attention, sequence first": (lambda: Attention(False, bias=False), SEQUENCE_FIRST),
    "masked attention": (lambda: Attention(False, ~MASK, batch_first=True), BATCH_FIRST),
    "masked attention with its weights": (lambda: Attention(True, ~MASK, batch_first=True), BATCH_FIRST),
    "attention to another sequence": (lambda: Attention(False, kdim=12, vdim=10), ((6, 2, 16), (7, 2, 12), (7, 2, 10))),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), BATCH_FIRST),
    "encoder layer, norm first": (lambda: nn.TransformerEncoderLayer(16, 4, 32, norm_first=True, activation="gelu"), SEQUENCE_FIRST),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, nn.LayerNorm(16)), BATCH_FIRST),
    "decoder layer": (lambda: nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), ((2, 6, 16), (2, 9, 16))),
    "causal block": (CausalBlock, BATCH_FIRST),
}


@pytest.mark.parametrize("name", NETS)
def test_attention_modules_agree_with_torch_for_any_batch(name: str) -> None:
    torch.manual_seed(0)
    make, shapes = NETS[name]
    net = make().eval()
    x = tuple(images(*shape) / 3 for shape in shapes)
    model = check(net, *x, tolerance=2e-5)
    axis = 1 if shapes[0][0] == 6 else 0
    if axis == 0:  # the batch is dimension 0, which is symbolic
        more = tuple(torch.cat([v, v.flip(0), v]) for v in x)
        with torch.no_grad():
            expected = net(*more)
        got = Session(model, threads=2)(*more)
        for a, b in zip(got if isinstance(got, tuple) else (got,), expected if isinstance(expected, tuple) else (expected,), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_a_transposed_right_operand_is_read_as_it_lies() -> None:
    model = check(CausalBlock(), images(2, 6, 16) / 3, tolerance=2e-5)
    scores = next(node for node in model.graph["nodes"] if node["op"] == "matmul")
    assert scores["attrs"]["transpose_b"] == 1
    assert ops(model).count("transpose") == 4  # query, key, value, and back


def test_the_fast_path_of_an_encoder_layer_makes_no_difference() -> None:
    x = images(2, 6, 16) / 3
    net = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    enabled = torch.backends.mha.get_fastpath_enabled()
    try:
        graphs = []
        for fast in (True, False):
            torch.backends.mha.set_fastpath_enabled(fast)
            graphs.append(convert(net, example_inputs=(x,)).graph["nodes"])
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
    assert graphs[0] == graphs[1]
