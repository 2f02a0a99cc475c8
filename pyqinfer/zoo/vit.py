"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) with torchvision's layer names and parameter shapes."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """The parameters and results of ``nn.MultiheadAttention(width, heads, batch_first=True)`` on one sequence: ``[N, L, width]``.

    The projection of queries, keys and values is a linear layer of its own, so that it can be quantized.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.reshape(n, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).reshape(n, length, width))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Attention and a two-layer perceptron, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for layer in (widen, narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)
        self.mlp = nn.Sequential(widen, nn.GELU(), nn.Dropout(0.0), narrow, nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Position embedding, blocks, LayerNorm."""

    def __init__(self, length: int, depth: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.layers = nn.Sequential(OrderedDict((f"encoder_layer_{i}", EncoderBlock(width, heads, hidden)) for i in range(depth)))
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(x + self.pos_embedding))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """``[N, 3, image_size, image_size] -> [N, num_classes]``."""

    def __init__(self, num_classes: int, image_size: int, patch_size: int, depth: int, width: int, heads: int) -> None:
        super().__init__()
        if image_size % patch_size or width % heads:
            raise ValueError(f"image_size {image_size} must be a multiple of patch_size {patch_size}, width {width} of heads {heads}")
        self.conv_proj = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = Encoder((image_size // patch_size) ** 2 + 1, depth, width, heads, 4 * width)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))
        nn.init.trunc_normal_(self.conv_proj.weight, std=(3 * patch_size**2) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], dim=1)
        return self.heads(self.encoder(tokens)[:, 0])  # type: ignore[no-any-return]


def vit_small(
    num_classes: int = 1000, image_size: int = 224, patch_size: int = 16, depth: int = 12, width: int = 384, heads: int = 6
) -> VisionTransformer:
    """ViT-S/16: 22,050,664 parameters (1000 classes at 224x224). The MLP is 4 ``width`` wide.

    Raises:
        ValueError: sizes that do not divide.
    """
    return VisionTransformer(num_classes, image_size, patch_size, depth, width, heads)
