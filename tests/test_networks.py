"""Whole int8 networks: the reference, the NumPy twin and every ISA give the same bytes, for any threads, batch split and alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pyqinfer as pq
from pyqinfer import reference

BATCH = 5


def quantized(name: str, size: int) -> tuple[pq.Model, Any]:
    """The converted network and a batch; ResNet-20 is the trained one on glyphs, the others have random weights."""
    if name == "resnet20_glyphs":
        model = pq.zoo.load_trained(name)
        x = torch.from_numpy(pq.zoo.glyphs("validation", size)[0][:BATCH])
    else:
        model = getattr(pq.zoo, name)()
        pq.zoo.randomize_batchnorm(model, seed=0)
        x = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    graph = pq.quantize(model.eval(), pq.PTQ(), example_inputs=(x[:1],), calibration=[(x,)])
    return pq.convert(graph, example_inputs=(x[:1],)), x.numpy()


def misaligned(x: Any) -> Any:
    raw = np.zeros(x.nbytes + 8, np.uint8)
    view = raw[5 : 5 + x.nbytes].view(np.float32).reshape(x.shape)
    view[...] = x
    return view


NETWORKS = [
    pytest.param("resnet20_glyphs", 28),
    pytest.param("resnet18", 224, marks=pytest.mark.slow),
    pytest.param("resnet50", 224, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_one_answer_everywhere(name: str, size: int) -> None:
    if name == "resnet20_glyphs" and pq.zoo.missing_packages():
        pytest.skip(f"fonts are not installed: apt-get install {' '.join(pq.zoo.missing_packages())}")
    model, x = quantized(name, size)
    expected = pq.Session(model, threads=1, isa="reference")(x).tobytes()
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    (output,) = model.outputs
    assert reference.run(model.graph, constants, {"x": x})[output].tobytes() == expected
    for isa in pq.cpu_info()["isas"]:
        if isa == "reference":
            continue
        for threads in (1, 2, 3, 4):
            session = pq.Session(model, threads=threads, isa=isa)
            where = f"{isa}, {threads} threads"
            assert session(x).tobytes() == expected, where
            assert session(misaligned(x)).tobytes() == expected, f"{where}, misaligned"
            split = np.concatenate([session(x[i : i + 1]) for i in range(BATCH)])
            assert split.tobytes() == expected, f"{where}, one image at a time"
