"""Conversions that check themselves: a fault of any pass is found and named, and a sound conversion is never refused."""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import conversion
from pyqinfer.lower import EngineGraph

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


def quantized() -> torch.fx.GraphModule:
    return pq.quantize(net(), pq.PTQ(), example_inputs=(X,), calibration=[X])


def damaged(layer: str, factor: float) -> Any:
    """``lower`` with one layer's bias or scales changed, as a faulty pass would change them."""
    lower = conversion.lower

    def broken(*args: Any) -> EngineGraph:
        engine = lower(*args)
        constants = list(engine.constants)
        for i, entry in enumerate(engine.graph["constants"]):
            if entry["name"] == f"{layer}.bias":
                constants[i] = constants[i] + np.float32(factor)
        return dataclasses.replace(engine, constants=constants)

    return patch.object(conversion, "lower", broken)


@pytest.mark.parametrize("layer", ["0", "2", "4"])
@pytest.mark.parametrize("model", [net, quantized], ids=["float", "8/8"])
# Holds K8.
def test_the_first_layer_that_differs_is_named(model: Any, layer: str) -> None:
    graph = model()
    with damaged(layer, 0.5), pytest.raises(pq.ConversionError, match=f"on the examples layer '{layer}.*differs from torch"):
        pq.convert(graph, example_inputs=(X,))
    with damaged(layer, 0.5):
        pq.convert(graph, example_inputs=(X,), check=False)


def test_a_little_more_than_rounding_is_a_warning() -> None:
    with damaged("2", 5e-3), pytest.warns(UserWarning, match="layer '2.*differs from torch by"):
        pq.convert(net(), example_inputs=(X,))


class Chooses(nn.Module):
    """Computes something else where torch.export looks at it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if torch.compiler.is_exporting() else x.abs()


def test_a_graph_that_is_not_the_module_is_found() -> None:
    with pytest.raises(pq.ConversionError, match=r"torch\.export made of the model"):
        pq.convert(Chooses(), example_inputs=(X,))


class ByBatch(nn.Module):
    """Computes something else for a batch of one, unseen by torch.export."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs() if not torch.compiler.is_exporting() and len(x) == 1 else x.relu()


def test_another_batch_is_run_as_well() -> None:
    with pytest.raises(pq.ConversionError, match="on a batch of 1 the graph"):
        pq.convert(ByBatch(), example_inputs=(X,))


class BySize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs() if not torch.compiler.is_exporting() and x.shape[2] == 4 else x.relu()


def test_another_size_is_run_as_well() -> None:
    with pytest.raises(pq.ConversionError, match="on images of 4x4 the graph"):
        pq.convert(BySize(), example_inputs=(X,), dynamic_size=True)
    pq.convert(BySize(), example_inputs=(X,))


def test_a_deep_random_network_is_not_refused_for_codes_that_fall_the_other_way() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(30) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.Hardswish())]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers).eval()
    graph = pq.quantize(model, pq.PTQ(weight_bits=3, act_bits=3, first_last=None), example_inputs=(X,), calibration=[X])
    pq.convert(graph, example_inputs=(X,))


def test_outputs_that_are_not_finite_in_torch_may_be_so_in_the_engine() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x)

    pq.convert(Log(), example_inputs=(X.abs() + 0.1,), samples=0)
    pq.convert(Log(), example_inputs=(X.clamp_min(0),), samples=0)


def test_where_a_single_row_gives_no_number_the_examples_are_stored_as_they_are() -> None:
    class Standardized(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean(0)) / x.std(0)

    model = pq.convert(Standardized(), example_inputs=(X.flatten(1),))
    [sample] = model.graph["samples"]
    shapes = [model.graph["constants"][index]["shape"] for index in sample["inputs"].values()]
    assert shapes == [list(X.flatten(1).shape)]
    with pytest.raises(ValueError, match="'output' holds NaN or infinity"):
        pq.convert(Standardized(), example_inputs=(X[:1].flatten(1),), check=False)


def test_a_network_of_too_many_operations_is_refused_by_the_layer_that_has_most() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    refusal = pq.ModelFormatError("graph: more than 1000000 tokens")
    few = patch.object(conversion, "_MANY_NODES", 10)
    with (
        few,
        patch.object(conversion.Model, "from_bytes", side_effect=refusal) as attempts,
        pytest.raises(
            pq.UnsupportedError, match=r"operations, which is more than a file may hold \(graph: more than .* of them are in 'rnn':"
        ),
    ):
        pq.convert(Recurrent(), example_inputs=(torch.randn(2, 5, 3),))
    assert attempts.call_count == 1


def test_models_and_inputs_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pq.convert(model, example_inputs=(X,))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_in_bytes_are_compared_as_what_the_bytes_stand_for() -> None:
    image = pq.ImageInput(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    values = image.from_bytes(pixels)
    np.testing.assert_array_equal(image.to_bytes(values), pixels)
    x = torch.from_numpy(values)
    graph = pq.quantize(net(), pq.PTQ(), example_inputs=(x,), calibration=[x])
    name = next(iter(pq.convert(graph, example_inputs=(x,)).inputs))
    pq.convert(graph, example_inputs=(x + 0.3,), image_inputs={name: image})
