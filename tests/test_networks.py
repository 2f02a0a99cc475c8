"""Whole networks: against torch layer by layer, and one answer from the twin, every ISA, any threads, batch split and alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from agreement import assert_engine_equals_twin, assert_within_bounds, differences
from networks import LARGE, SMALL, Network
from random_graphs.check import as_tuple, assert_one_answer
from torch import nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves
from traces import traced_once

import pyqinfer as pq
from pyqinfer.conversion import build_engine_graph
from pyqinfer.frontend.tracing import trace
from pyqinfer.lower.coverage import layer_coverage

_BATCH = 2
_FP32_TOLERANCE = 1e-4  # of the largest output


# Ranges without a search and no trials: which ranges PTQ takes makes no difference here.
_PLAIN = pq.PTQ(observer="minmax", weight_range="minmax", equalize=False, bias_correction=False)


def graph_of(network: Network, model: nn.Module, kind: str) -> GraphModule:
    """The fp32 or the quantized graph that torch runs."""
    example = (network.images(2),)
    resizable = network.other is not None
    if kind == "fp32":
        return trace(model, example, dynamic_size=resizable)
    return pq.quantize(model, _PLAIN, example_inputs=example, calibration=[network.images(8)], dynamic_size=resizable)


@dataclass(frozen=True)
class Graphs:
    """A network with its module and the graphs of both kinds."""

    network: Network
    module: nn.Module
    graphs: dict[str, GraphModule]


@pytest.fixture(scope="module", params=SMALL, ids=lambda n: n.name)
def small(request: pytest.FixtureRequest) -> Graphs:
    network, module = request.param, request.param.module()
    with traced_once(module):
        return Graphs(network, module, {kind: graph_of(network, module, kind) for kind in ("fp32", "int8")})


def agree_with_torch(network: Network, graph: GraphModule) -> pq.Model:
    """The engine agrees with torch layer by layer at the first size. Returns its model, of any size where the network allows it."""
    x, resizable = network.images(_BATCH), network.other is not None
    engine = build_engine_graph(graph, (x,))
    model = pq.convert(graph, example_inputs=(x,), samples=0)
    assert resizable == ("H" in model.inputs["x"])
    assert_within_bounds(differences(graph, engine, x, native=model))
    return model


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_small_networks_agree_with_torch_and_give_one_answer(small: Graphs, kind: str) -> None:
    network = small.network
    model = agree_with_torch(network, small.graphs[kind])
    assert_one_answer(model, (network.images(_BATCH),), any_batch=True)
    sessions = [pq.Session(model, threads=2, isa=isa) for isa in pq.cpu_info()["isas"]]
    for size in [network.size] if network.other is None else [network.size, network.other]:
        x = network.images(_BATCH, size)
        outputs = [[y.numpy().tobytes() for y in as_tuple(session(x))] for session in sessions]
        assert all(output == outputs[0] for output in outputs), size
        if kind == "fp32":
            assert_close(sessions[-1], small.module, x)


def assert_close(session: pq.Session, module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        expected = tree_leaves(module(x))
    for got, wanted in zip(as_tuple(session(x)), expected, strict=True):
        assert float((got - wanted).abs().max()) <= _FP32_TOLERANCE * float(wanted.abs().max())


def test_ptq_leaves_almost_all_multiplications_in_integers(small: Graphs) -> None:
    images = small.network.images(2)
    model = pq.convert(small.graphs["int8"], example_inputs=(images,), samples=0)
    assert model.integer_share({"x": tuple(images.shape)}) >= small.network.share, [
        layer for layer in layer_coverage(model.graph) if not layer.integer
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("network", LARGE, ids=lambda n: n.name)
def test_large_networks_agree_with_torch_and_give_one_answer(network: Network, kind: str) -> None:
    model = agree_with_torch(network, graph_of(network, network.module(), kind))
    for size in [network.size] if network.other is None else [network.size, network.other]:
        x = network.images(_BATCH, size)
        expected = pq.Session(model, threads=1)(x).numpy().tobytes()
        for isa in pq.cpu_info()["isas"]:
            got = pq.Session(model, threads=2, isa=isa)
            assert np.concatenate([got(x[:1]).numpy(), got(x[1:]).numpy()]).tobytes() == expected, isa
    if kind == "int8" and network.other is not None:
        assert_engine_equals_twin(model, network.images(1, (64, 64)))


@pytest.mark.skipif(bool(pq.zoo.missing_packages()), reason=f"apt-get install {' '.join(pq.zoo.missing_packages())}")
def test_the_trained_resnet20_gives_one_answer() -> None:
    x = torch.from_numpy(pq.zoo.glyphs("validation", 28)[0][:5])
    model = pq.zoo.load_trained("resnet20_glyphs").eval()
    quantized = pq.quantize(model, pq.PTQ(), example_inputs=(x[:1],), calibration=[(x,)])
    assert_one_answer(pq.convert(quantized, example_inputs=(x[:1],)), (x,), any_batch=True)
