"""Random networks that behave like trained ones where quantization is concerned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_GAMMA = (0.6, 1.4)
# The last BatchNorm of a residual branch is small in trained networks; at full size the sum would double in every block.
_BRANCH_GAMMA = (0.2, 0.6)
_BETA_STD = 0.2


def randomize_batchnorm(model: nn.Module, seed: int, images: Tensor | None = None) -> nn.Module:
    """Give a freshly built model weights, BatchNorm parameters and running statistics like those of a trained one.

    Convolutions are drawn by He's rule, gamma uniformly and beta normally; then one pass in training mode over `images`
    sets each running mean and variance to those of the data, so activations stay of order one through any depth and every
    layer has a range worth quantizing.

    Args:
        model: changed in place, and returned in eval mode.
        seed: decides everything that is drawn.
        images: ``[N, C, H, W]`` float32 for the statistics; default 16 random images of 96x96, with as many channels
            as the first convolution reads.

    Raises:
        ValueError: `model` has no convolution to take the number of channels from, and `images` is None.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    ends = _branch_ends(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, module.in_features**-0.5, generator=generator)
                nn.init.normal_(module.bias, 0.0, _BETA_STD, generator=generator)
        for name, norm in norms:
            nn.init.uniform_(norm.weight, *(_BRANCH_GAMMA if name in ends else _GAMMA), generator=generator)
            nn.init.normal_(norm.bias, 0.0, _BETA_STD, generator=generator)
            norm.reset_running_stats()
        if images is None:
            images = _mixed_images(_input_channels(model), generator)
        momenta = [norm.momentum for _, norm in norms]
        for _, norm in norms:
            norm.momentum = None  # The average is then cumulative, so that one pass sets the statistics outright.
        model.train()
        model(images)
        model.eval()
        for (_, norm), momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model


def _branch_ends(model: nn.Module) -> set[str]:
    """Names of the BatchNorms right before a residual addition: the last normalization a block owns outside its projection."""
    ends = set()
    for name, block in model.named_modules():
        own = [key for key, m in block.named_modules() if isinstance(m, nn.BatchNorm2d) and "downsample" not in key]
        if hasattr(block, "downsample") or getattr(block, "use_res_connect", False):
            ends.add(f"{name}.{own[-1]}")
    return ends


def _input_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise ValueError("randomize_batchnorm: the model has no convolution; pass images")


def _mixed_images(channels: int, generator: torch.Generator) -> Tensor:
    """Half white noise, half coarse noise enlarged, which has most of its energy at low frequencies as photographs have.

    The statistics then suit inputs of either kind.
    """
    white = torch.randn(8, channels, 96, 96, generator=generator)
    coarse = torch.randn(8, channels, 12, 12, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(96, 96), mode="bilinear", align_corners=False)
    return torch.cat([white, smooth + 0.2 * white])
