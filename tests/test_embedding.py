"""Embeddings, and the networks that begin with one: against torch, the NumPy twin, and every ISA bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer import _core, reference
from pyqinfer.conversion import convert
from pyqinfer.measure.profile import profile
from pyqinfer.methods.ptq import PTQ
from pyqinfer.model import Model
from pyqinfer.quantization import quantize
from pyqinfer.session import Session

ROWS = 23


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, ROWS, shape, generator=torch.Generator().manual_seed(seed))


def outputs_of_every_isa(model: Model, *inputs: Tensor) -> np.ndarray[Any, Any]:
    """The twin's first output, which every ISA and thread count gives bit for bit."""
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    narrow = [x.numpy() if x.is_floating_point() else x.to(torch.int32).numpy() for x in inputs]
    names = [node["name"] for node in model.graph["nodes"]]
    twin = reference.run(model.graph, constants, dict(zip(model.inputs, narrow, strict=True)), names)
    for isa in _core.cpu_info()["isas"]:
        for threads in (1, 3):
            session = Session(model, threads=threads, isa=isa)
            got = session.run(dict(zip(model.inputs, (x.numpy() for x in inputs), strict=True)), capture=names)
            for name, value in twin.items():
                np.testing.assert_array_equal(got[name], value, err_msg=f"{name}, {isa}, {threads} threads")
    return twin[next(iter(model.outputs))]


class Classifier(nn.Module):
    """Mean of the words' vectors, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.hidden, self.last = nn.Embedding(ROWS, 16, padding_idx=0), nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.hidden(self.words(x).mean(1))))


class Block(nn.Module):
    """Words and positions in front of a transformer layer."""

    def __init__(self, length: int = 9, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = nn.Embedding(ROWS, width), nn.Embedding(length, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 32, dropout=0, batch_first=True)
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.positions(torch.arange(x.shape[1]))
        return self.last(self.layer(y))


NETWORKS = [Classifier, Block]


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_tokens_agree_with_torch_for_any_batch(kind: type[nn.Module]) -> None:
    net = kind().eval()
    model = convert(net, example_inputs=(tokens(2, 9),))
    assert model.graph["values"][model.graph["inputs"][0]["value"]] | {"name": ""} == {"name": "", "dtype": "i32", "shape": ["N", 9]}
    assert [node["op"] for node in model.graph["nodes"]].count("embedding") == 1  # positions are folded into a constant
    for batch in (1, 3):
        x = tokens(batch, 9, seed=batch)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(outputs_of_every_isa(model, x)), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_ptq_of_a_network_of_tokens_agrees_with_torch(kind: type[nn.Module]) -> None:
    net, x = kind().eval(), tokens(4, 9)
    quantized = quantize(net, PTQ(), example_inputs=(x,), calibration=[(x,), (tokens(4, 9, seed=5),)])
    model = convert(quantized, example_inputs=(x,), fallback="error")
    with torch.no_grad():
        expected, plain = quantized(x), net(x)
    got = torch.from_numpy(outputs_of_every_isa(model, x))
    step = (expected.max() - expected.min()) / 255
    assert ((got - expected).abs() > step).float().mean() < 0.01
    assert F.mse_loss(got, plain) < 0.02 * plain.var()


class Weights(nn.Module):
    """An embedding whose weights are codes with a scale per row, as codes where ``quantized``."""

    def __init__(self, zero: int, quantized: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("codes", torch.randint(-128, 128, (ROWS, 7), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(ROWS) * 0.1 + 0.01)
        self.register_buffer("zero", torch.full((ROWS,), zero))
        self.quantized = quantized

    def forward(self, x: Tensor) -> Tensor:
        d = torch.ops.quantized_decomposed
        y = F.embedding(x, d.dequantize_per_channel(self.codes, self.scale, self.zero, 0, -128, 127, torch.int8))
        if self.quantized:
            p = (0.02, 100, 0, 255, torch.uint8)
            y = d.dequantize_per_tensor(d.quantize_per_tensor(y, *p), *p)
        return y


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("zero", [0, 3])
def test_tables_of_codes_stay_codes_and_give_torch_s_numbers(zero: int, quantized: bool) -> None:
    net, x = Weights(zero, quantized).eval(), tokens(2, 3, 4)
    model = convert(net, example_inputs=(x,))
    node = model.graph["nodes"][0]
    assert node["op"] == "embedding"
    assert model.graph["constants"][node["constants"]["weight"]]["dtype"] == "code"
    assert model.graph["values"][node["outputs"][0]]["dtype"] == ("u8" if quantized else "f32")
    assert torch.equal(torch.from_numpy(outputs_of_every_isa(model, x)), net(x))


def test_a_float_table_is_read_as_it_is_by_indices_of_either_type_and_of_any_rank() -> None:
    for shape in ((), (5,), (2, 3, 1)):
        x, net = tokens(*shape), nn.Embedding(ROWS, 7).eval()
        model = convert(net, example_inputs=(x,), dynamic_batch=bool(shape))
        assert torch.equal(torch.from_numpy(outputs_of_every_isa(model, x)), net(x))
        assert torch.equal(Session(model)(x.to(torch.int32)), net(x))


def test_an_index_outside_the_table_is_refused_with_its_place_and_the_number_of_rows() -> None:
    session = Session(convert(Classifier().eval(), example_inputs=(tokens(2, 9),)))
    for wrong in (ROWS, -1):
        x = tokens(2, 9).numpy()
        x[1, 4] = wrong
        with pytest.raises(ValueError, match=rf"input 'x': index {wrong} at position 13 is outside \[0, {ROWS}\)"):
            session(x)
        with pytest.raises(ValueError, match="outside"):
            reference.run(
                session.model.graph,
                [session.model.constant(i) for i in range(len(session.model.graph["constants"]))],
                {"x": x.astype(np.int32)},
            )


def test_an_index_that_does_not_fit_the_engines_type_is_refused() -> None:
    session = Session(convert(nn.Embedding(ROWS, 3).eval(), example_inputs=(tokens(4),)))
    with pytest.raises(ValueError, match=r"4294967297 does not fit int32"):
        session(np.array([0, 2**32 + 1]))
    with pytest.raises(TypeError, match=r"expected dtype int32, got float32"):
        session(np.zeros(4, np.float32))
    with pytest.raises(TypeError, match=r"expected dtype int32, got uint8"):
        session(np.zeros(4, np.uint8))


def test_one_input_may_index_two_tables_and_the_smaller_one_counts() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small = nn.Embedding(ROWS, 4), nn.Embedding(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.large(x) + self.small(x)

    net, x = Two().eval(), torch.tensor([0, 4, 2])
    session = Session(convert(net, example_inputs=(x,)))
    assert torch.equal(session(x), net(x))
    with pytest.raises(ValueError, match=r"index 5 at position 0 is outside \[0, 5\)"):
        session(torch.tensor([5]))


def test_integers_meet_floats_as_floats_and_other_types_are_refused() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    x, y = tokens(3), torch.tensor([0.5, -1.0, 2.0])
    got = Session(convert(Sum().eval(), example_inputs=(x, y), dynamic_batch=False)).run({"x": x, "y": y})["output"]
    assert torch.equal(got, x + y)
    with pytest.raises(ValueError, match=r"expected float32, or int64, int32 or bool, got torch\.int16"):
        convert(nn.Embedding(ROWS, 3), example_inputs=(tokens(3).to(torch.int16),))


def test_a_model_of_tokens_is_profiled_and_keeps_its_sample() -> None:
    x = tokens(2, 9)
    model = convert(Classifier().eval(), example_inputs=(x,))
    (sample,) = model.graph["samples"]
    stored = model.constant(sample["inputs"]["x"])
    assert stored.dtype == np.int32
    np.testing.assert_array_equal(stored, x[:1].numpy())
    assert "embedding" in profile(Session(model), (x,), repeat=1).to_csv()
