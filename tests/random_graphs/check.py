"""One network through everything: fp32 and quantized, against torch, against the NumPy twin, on every ISA."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from agreement import assert_agrees_with_torch, assert_engine_equals_twin
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

import pyqinfer as pq
from pyqinfer.frontend.functional import export_functional
from pyqinfer.frontend.tracing import trace
from random_graphs.net import Net

_CALIBRATION = 4
# The bound for whole fp32 networks, as a share of an output's largest element. Layer by layer it is far closer.
_FP32_TOLERANCE = 1e-4


def check(net: Net) -> None:
    """Raises AssertionError where anything differs that must not."""
    model, examples = net.build(), net.examples()
    traced = trace(model, examples, net.dynamic_batch, any(net.larger))
    check_graph(net, traced, model)
    # torch.export takes ten times as long as all the rest, so the graph is not traced a second time where PTQ would trace the same one.
    again = {} if any("FakeQuantize" in step.module for step in net.steps) else {"return_value": copy.deepcopy(traced)}
    batch = net.examples(_CALIBRATION) if net.dynamic_batch else examples
    with patch("pyqinfer.quantization.graph.export_functional", wraps=export_functional, **again):
        quantized = pq.quantize(
            model,
            pq.PTQ(**net.ptq),
            example_inputs=examples,
            calibration=[batch],
            keep=net.keep,
            dynamic_batch=net.dynamic_batch,
            dynamic_size=any(net.larger),
        )
    check_graph(net, quantized, None)


def check_graph(net: Net, graph: GraphModule, fp32: nn.Module | None) -> None:
    """``fp32``: the module that the graph was traced from, where both compute the same."""
    examples = net.examples()
    assert_agrees_with_torch(graph, *examples, dynamic_batch=net.dynamic_batch)
    larger = net.examples(larger=net.larger)
    model = pq.convert(graph, example_inputs=examples, dynamic_batch=net.dynamic_batch, samples=0)
    assert_one_answer(model, examples, net.dynamic_batch)
    if not (any(net.larger) and runs(graph, larger) and runs(net.build(), larger) and takes(model, larger)):
        return
    assert_agrees_with_torch(graph, *larger, dynamic_batch=net.dynamic_batch)
    assert_one_answer(model, larger, net.dynamic_batch)
    if fp32 is not None:
        with torch.no_grad():
            assert_close(as_tuple(pq.Session(model, threads=1)(*larger)), tree_leaves(fp32(*larger)))


def takes(model: pq.Model, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the model takes inputs of these sizes: no where an operation needs them as numbers, or a condition excludes them."""
    try:
        model.native.infer_shapes({name: tuple(x.shape) for name, x in zip(model.inputs, inputs, strict=True)})
    except ValueError as error:
        if "expected shape" in str(error) or "holds only where" in str(error):
            return False
        raise
    return True


def runs(module: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether torch can run the module on inputs of these shapes."""
    try:
        with torch.no_grad():
            module(*inputs)
    except RuntimeError:
        return False
    return True


def assert_one_answer(model: pq.Model, inputs: tuple[Tensor, ...], any_batch: bool) -> None:
    """The twin, every ISA, 1 to 3 threads, a batch cut into single rows and misaligned inputs give the same bytes."""
    assert_engine_equals_twin(model, *inputs)
    arrays = [x.numpy() for x in inputs]
    expected = outputs_of(pq.Session(model, threads=1, isa="reference"), arrays)
    any_batch = any_batch and takes(model, tuple(x[:1] for x in inputs))  # torch's group norm refuses a batch of one value per group
    for isa, threads in variants():
        session = pq.Session(model, threads=threads, isa=isa)
        assert outputs_of(session, arrays) == expected, f"{isa}, {threads} threads"
        assert outputs_of(session, [misaligned(x) for x in arrays]) == expected, f"{isa}, {threads} threads, misaligned"
        if any_batch:
            rows = [as_tuple(session(*(x[i : i + 1] for x in arrays))) for i in range(len(arrays[0]))]
            assert [np.concatenate(parts).tobytes() for parts in zip(*rows, strict=True)] == expected, f"{isa}, {threads} threads, split"


def variants() -> Iterator[tuple[str, int]]:
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 2, 3):
            yield isa, threads


def outputs_of(session: pq.Session, arrays: list[NDArray[Any]]) -> list[bytes]:
    return [y.tobytes() for y in as_tuple(session(*arrays))]


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def misaligned(x: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at an odd address."""
    raw = np.zeros(x.nbytes + 8, np.uint8)
    view = raw[5 : 5 + x.nbytes].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def assert_close(got: tuple[Tensor, ...], expected: list[Tensor]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= _FP32_TOLERANCE * max(1.0, float(b.abs().max()))
