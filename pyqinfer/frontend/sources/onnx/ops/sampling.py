"""Samples of images at computed places, columns of windows, and transforms of signals."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler, axis_of, check_count
from pyqinfer.frontend.values import NotSupportedHere

_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic"}


def _grid_sample(c: Call) -> Tensor:
    mode, padding = str(c.attribute("mode", "linear")), str(c.attribute("padding_mode", "zeros"))
    if mode not in _MODES:
        raise NotSupportedHere(f"mode {mode!r}")
    return F.grid_sample(c.tensor(0), c.tensor(1), _MODES[mode], padding, bool(c.attribute("align_corners", 0)))


def _affine_grid(c: Call) -> Tensor:
    sizes = c.sizes(1, "size")
    check_count(sizes)
    return F.affine_grid(c.tensor(0), sizes, bool(c.attribute("align_corners", 0)))


def _col2im(c: Call) -> Tensor:
    image, block = c.sizes(1, "image shape"), c.sizes(2, "block shape")
    check_count(image)
    strides, dilations = (list(c.attribute(name) or [1] * len(image)) for name in ("strides", "dilations"))
    pads = list(c.attribute("pads") or [0] * 2 * len(image))
    if len(image) != 2 or pads[:2] != pads[2:]:
        raise NotSupportedHere(f"windows over {len(image)} dimensions with padding {pads}")
    sizes = (tuple(int(n) for n in numbers) for numbers in (image, block, dilations, pads[:2], strides))
    return F.fold(c.tensor(0), *sizes)


def _dft(c: Call) -> Tensor:
    """The transform along one axis of a signal whose last axis is 1 (real) or 2 (real and imaginary part)."""
    x, inverse, one_sided = c.tensor(0), bool(c.attribute("inverse", 0)), bool(c.attribute("onesided", 0))
    default = -2 if c.version >= 20 else 1
    axis = axis_of(int(c.number(2, "axis", default)) if c.version >= 20 else int(c.attribute("axis", default)), x.ndim)
    length = int(c.number(1, "length")) if c.has(1) else None
    is_real = x.shape[-1] == 1
    if one_sided and inverse != (not is_real):
        raise NotSupportedHere("half of a transform of complex numbers, or of an inverse one of real ones")
    if one_sided and inverse:
        halved: Tensor = torch.fft.irfft(torch.view_as_complex(x), length, axis)
        return halved.unsqueeze(-1)
    if one_sided:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], length, axis))
    signal = torch.complex(x[..., 0], torch.zeros_like(x[..., 0])) if is_real else torch.view_as_complex(x)
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(signal, length, axis))


def _window(function: Callable[..., Tensor]) -> Handler:
    def handler(c: Call) -> Tensor:
        size = int(c.number(0, "size"))
        check_count([size])
        return function(size, periodic=bool(c.attribute("periodic", 1)), dtype=torch.float32)

    return handler


def _causal_conv(c: Call) -> tuple[Tensor, Tensor]:
    """A convolution of each channel over this and earlier positions; what is left of them is the state of the next call."""
    x, weight = c.tensor(0), c.tensor(1)
    earlier = weight.shape[-1] - 1
    x = torch.cat([c.tensor(3), x], -1) if c.has(3) else F.pad(x, [earlier, 0])
    y = F.conv1d(x, weight, c.tensor(2) if c.has(2) else None, groups=weight.shape[0])
    activation = str(c.attribute("activation", "none"))
    if activation not in ("none", "silu", "swish"):
        raise NotSupportedHere(f"activation {activation!r}")
    return y if activation == "none" else F.silu(y), x.narrow(-1, x.shape[-1] - earlier, earlier)


ROWS: dict[str, Handler] = {
    "GridSample": _grid_sample,
    "AffineGrid": _affine_grid,
    "Col2Im": _col2im,
    "DFT": _dft,
    "BlackmanWindow": _window(torch.blackman_window),
    "HannWindow": _window(torch.hann_window),
    "HammingWindow": _window(torch.hamming_window),
    "CausalConvWithState": _causal_conv,
}
