"""Attention and rotary embeddings as the standard has them, in matrix products and a softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _attention(c: Call) -> Any:
    """softmax(query @ key^T * scale + mask) @ value, with keys and values of earlier runs in front where they are given.

    Its outputs are the result, all keys, all values, and the products or weights that the last attribute names.
    """
    query, key, value = (c.tensor(i) for i in range(3))
    if c.has(6):
        raise NotSupportedHere("attention over a number of keys that is computed")
    flat, heads = query.ndim == 3, c.attribute("q_num_heads")
    if flat:
        kv = int(c.attribute("kv_num_heads", heads))
        query, key, value = (_by_heads(x, int(n)) for x, n in ((query, heads), (key, kv), (value, kv)))
    if c.has(4):
        key, value = torch.cat([c.tensor(4), key], 2), torch.cat([c.tensor(5), value], 2)
    present = (key, value)
    if query.shape[1] != key.shape[1]:
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    scale = float(c.attribute("scale", 0.0)) or 1 / math.sqrt(query.shape[-1])
    wanted = len(c.operation.outputs) > 3 and bool(c.operation.outputs[3])
    softcap, mode = float(c.attribute("softcap", 0.0)), int(c.attribute("qk_matmul_output_mode", 0))
    mask, causal = c.tensor(3) if c.has(3) else None, bool(c.attribute("is_causal", 0))
    if not wanted and not softcap and not (causal and (c.has(4) or mask is not None)):
        y = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)
        return (_flattened(y, flat), *present)
    if mask is not None and mask.dtype == torch.bool:
        raise NotSupportedHere("a mask of truth values beside a cache, a softcap or the products as an output")
    products = torch.matmul(query * scale, key.transpose(-1, -2))
    capped = softcap * torch.tanh(products / softcap) if softcap else products
    scores = capped if mask is None else capped + mask
    scores = scores + _hidden(query.shape[2], key.shape[2], c.tensor(4).shape[2] if c.has(4) else 0) if causal else scores
    weights = torch.softmax(scores, -1)
    if wanted and causal and mode == 2:
        raise NotSupportedHere("causal scores as an output, which hold minus infinity")
    shown = (products, capped, scores, weights)[mode]
    return (_flattened(torch.matmul(weights, value), flat), *present, shown * 1.0)


def _hidden(queries: Any, keys: Any, before: Any) -> Tensor:
    """What hides from each query the keys behind its own place; in front of the first query lie so many earlier keys."""
    if not all(isinstance(n, int) for n in (queries, keys, before)):
        raise NotSupportedHere("causal attention over an open number of keys, with a cache, a mask or a softcap")
    lowest = torch.finfo(torch.float32).min
    return torch.tensor([[lowest if j > i + before else 0.0 for j in range(keys)] for i in range(queries)])


def _by_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _flattened(y: Tensor, flat: bool) -> Tensor:
    return y.transpose(1, 2).flatten(2) if flat else y


def _rotary(c: Call) -> Tensor:
    """Pairs of elements turned by angles whose cosines and sines are given, for each position or by the positions' numbers."""
    x, cos, sin = c.tensor(0), c.tensor(1), c.tensor(2)
    flat, heads = x.ndim == 3, int(c.attribute("num_heads", 0))
    x = x.reshape(*x.shape[:2], heads, -1) if flat else x.transpose(1, 2)
    if c.has(3):
        cos, sin = (F.embedding(c.tensor(3), table) for table in (cos, sin))
    size = int(c.attribute("rotary_embedding_dim", 0)) or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    cos, sin = cos[..., : size // 2].unsqueeze(2), sin[..., : size // 2].unsqueeze(2)
    if c.attribute("interleaved", 0):
        first, second = turned[..., 0::2], turned[..., 1::2]
        pairs = [(first * cos - second * sin).unsqueeze(-1), (first * sin + second * cos).unsqueeze(-1)]
        y = torch.cat(pairs, -1).flatten(-2)
    else:
        first, second = turned[..., : size // 2], turned[..., size // 2 :]
        y = torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
    y = torch.cat([y, rest], -1) if size < x.shape[-1] else y
    return y.flatten(2) if flat else y.transpose(1, 2)


ROWS: dict[str, Handler] = {"Attention": _attention, "RotaryEmbedding": _rotary}
