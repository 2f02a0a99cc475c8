"""NNCF's form of weights, ``codes * scale - offset``, written by hand; and models that NNCF itself made, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin, assert_within_bounds, differences
from frontend_nets import FAMILIES
from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer import ir
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.frontend import import_module

ops = torch.ops.quantized_decomposed
SCALES = torch.tensor([0.011, 0.02, 0.03, 0.005]).reshape(4, 1, 1, 1)
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Compressed(nn.Module):
    """A convolution with 8-bit weights that are multiplied and subtracted from in the graph, on a quantized input."""

    def __init__(self, dtype: torch.dtype, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        info = torch.iinfo(dtype)
        codes = torch.randint(info.min, info.max + 1, (4, 3, 3, 3), generator=torch.Generator().manual_seed(1))
        for name, tensor in (("codes", codes.to(dtype)), ("scale", scale), ("offset", offset), ("bias", torch.ones(4))):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        x = ops.dequantize_per_tensor(ops.quantize_per_tensor(x, 0.03, 5, -128, 127, torch.int8), 0.03, 5, -128, 127, torch.int8)
        weight = torch.sub(torch.mul(self.codes, self.scale), self.offset)
        return F.relu(F.conv2d(x, weight, self.bias))


def exported(net: nn.Module) -> GraphModule:
    module = torch.export.export(net.eval(), (X,)).module()
    assert isinstance(module, GraphModule)
    return module


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_points", "base"),
    [
        (torch.int8, SCALES, [0, 0, 0, 0], None),
        (torch.int8, SCALES, [3, 0, -128, 127], [-3, 0, 128, -127]),
        (torch.uint8, SCALES, [128, 120, 0, 255], [0, 8, 128, -127]),
        (torch.int8, torch.tensor(0.02), [7, 7, 7, 7], [-7, -7, -7, -7]),
    ],
    ids=["symmetric", "asymmetric", "unsigned", "per tensor"],
)
def test_codes_times_scale_minus_offset_are_quantized_weights(
    dtype: torch.dtype, scale: Tensor, zero_points: list[int], base: list[int] | None
) -> None:
    offset = (torch.tensor(zero_points).float().reshape(4, 1, 1, 1) * scale)[: 4 if scale.ndim else 1]
    module = exported(Compressed(dtype, scale, offset if scale.ndim else offset.reshape(())))
    (conv,) = [n for n in import_module(module, (X,)).nodes if n.op == "conv2d"]
    weight = conv.constants["weight"]
    assert isinstance(weight, ir.Weight)
    assert (None if weight.base is None else weight.base.tolist()) == base
    engine = build_engine_graph(module, (X,), fallback="error")
    assert_within_bounds(differences(module, engine, X))
    assert_engine_equals_twin(convert(module, example_inputs=(X,)), X)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        (SCALES, 0.4 * SCALES),
        (SCALES, torch.zeros(1, 3, 1, 1) + 0.011),
        (torch.rand(4, 3, 1, 1) + 0.1, torch.tensor(0.0)),
        (torch.zeros(4, 1, 1, 1), torch.tensor(0.0)),
    ],
    ids=["between two codes", "another axis", "two axes", "scale 0"],
)
def test_weights_of_another_form_are_evaluated_as_they_stand(scale: Tensor, offset: Tensor) -> None:
    net = Compressed(torch.int8, scale, offset)
    (conv,) = [n for n in import_module(exported(net), (X,)).nodes if n.op == "conv2d"]
    weight = conv.constants["weight"]
    assert isinstance(weight, np.ndarray)
    np.testing.assert_array_equal(weight, (net.codes * net.scale - net.offset).numpy())


@pytest.mark.parametrize("net", FAMILIES)
def test_models_that_nncf_quantized_agree_layer_by_layer(net: str) -> None:
    nncf: Any = pytest.importorskip("nncf")
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    module = nncf.quantize(torch.export.export(make(), (x,)).module(), nncf.Dataset([x]))
    engine = build_engine_graph(module, (x,), fallback="error")
    assert_within_bounds(differences(module, engine, x))
    assert_engine_equals_twin(convert(module, example_inputs=(x,)), x)
