"""Networks of branches: layers write into the concatenation that reads them, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agreement import assert_engine_equals_twin
from torch import Tensor, nn

import pyqinfer as pq


def conv(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU())


class Inception(nn.Module):
    """Four branches of odd widths, twice; the last one begins with a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3)
        self.first, self.second = self.block(16), self.block(50)
        self.head = nn.Conv2d(50, 5, 1)

    @staticmethod
    def block(inputs: int) -> nn.ModuleList:
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, 3))
        deep = nn.Sequential(conv(inputs, 8), conv(8, 9, 3), conv(9, 13, 3))
        return nn.ModuleList([conv(inputs, 17), nn.Sequential(conv(inputs, 12), conv(12, 17, 3)), deep, pooled])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in (self.first, self.second):
            x = torch.cat([branch(x) for branch in block], 1)
        return self.head(x)


class Dense(nn.Module):
    """Each layer adds channels to all before it, which the next one reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(3, 5, 3), conv(8, 11, 3), conv(19, 7, 1)])
        self.left, self.middle, self.right = conv(26, 4, 3), conv(26, 3), conv(26, 9, 3)
        self.head = nn.Conv2d(16, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(torch.cat([self.left(x), self.middle(x), self.right(x)], 1))


# The inputs that each concatenation finds in place.
NETWORKS = {"inception": (Inception, ["all", "all"]), "dense": (Dense, ["input 1", "input 1", "input 1", "all"])}


def model_of(name: str, bits: int) -> tuple[pq.Model, Tensor]:
    torch.manual_seed(0)
    net, x = NETWORKS[name][0]().eval(), torch.randn(2, 3, 15, 13)
    graph = pq.quantize(net, pq.PTQ(weight_bits=bits, act_bits=bits, first_last=None), example_inputs=(x[:1],), calibration=[(x,)])
    return pq.convert(graph, example_inputs=(x[:1],), dynamic_batch=True), x


def in_place(session: pq.Session) -> list[str]:
    layers = [layer for layer in session.layers() if layer["op"] == "concat"]
    return [
        "all" if layer["executed_as"] == "in place" else layer["reason"].split(", ", 1)[1].removesuffix(" in place") for layer in layers
    ]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_branches_are_written_in_place_and_give_the_reference_s_codes(name: str, bits: int) -> None:
    model, x = model_of(name, bits)
    assert_engine_equals_twin(model, x)
    expected = pq.Session(model, threads=1, isa="reference")(x.numpy())
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 2):
            session = pq.Session(model, threads=threads, isa=isa)
            assert in_place(session) == NETWORKS[name][1], isa
            np.testing.assert_array_equal(session(x.numpy()), expected, err_msg=f"{isa}, {threads} threads")
            np.testing.assert_array_equal(session(x[1:].numpy()), expected[1:], err_msg=f"{isa}, {threads} threads")


def test_float_branches_are_written_in_place() -> None:
    torch.manual_seed(0)
    net, x = Inception().eval(), torch.randn(1, 3, 15, 13)
    model = pq.convert(net, example_inputs=(x,))
    expected = pq.Session(model, threads=1, isa="reference")(x.numpy())
    for isa in pq.cpu_info()["isas"]:
        session = pq.Session(model, threads=2, isa=isa)
        assert in_place(session) == ["all", "all"], isa
        np.testing.assert_array_equal(session(x.numpy()), expected, err_msg=isa)
