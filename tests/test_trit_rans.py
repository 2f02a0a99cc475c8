"""Entropy-coded trits: the native coder against the page that describes it, and what a whole network takes in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pyqinfer as pq
from pyqinfer import _core
from pyqinfer.conversion import build_engine_graph
from pyqinfer.lower.emit import EngineGraph
from pyqinfer.reference import trit_rans
from pyqinfer.sizes import entropy_bytes

Trits = NDArray[np.int8]
TRITS = st.lists(st.sampled_from([0, 0, 0, 1, -1]), max_size=300).map(lambda codes: np.array(codes, np.int8))


def random_trits(n: int, zeros: float, seed: int = 0) -> Trits:
    return np.random.default_rng(seed).choice(np.array([-1, 0, 1], np.int8), n, p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2])


@given(TRITS)
@settings(max_examples=200, deadline=None)
def test_both_decoders_give_back_what_was_packed(codes: Trits) -> None:
    stream = _core.pack_trits(codes)
    np.testing.assert_array_equal(_core.unpack_trits(stream, codes.size), codes)
    np.testing.assert_array_equal(trit_rans.decode(stream, codes.size), codes)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_a_long_stream_decodes_alike(zeros: float) -> None:
    codes = random_trits(20_001, zeros)
    stream = _core.pack_trits(codes)
    np.testing.assert_array_equal(_core.unpack_trits(stream, codes.size), codes)
    np.testing.assert_array_equal(trit_rans.decode(stream, codes.size), codes)


@given(TRITS, st.data())
@settings(max_examples=300, deadline=None)
def test_both_decoders_refuse_the_same_streams(codes: Trits, data: st.DataObject) -> None:
    stream = bytearray(_core.pack_trits(codes))
    for _ in range(data.draw(st.integers(0, 2))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.sampled_from([len(stream), len(stream) - 1, len(stream) - 2]))]
    count = codes.size + data.draw(st.sampled_from([0, 0, 0, 1, 4, 100]))
    try:
        expected = trit_rans.decode(bytes(stream), count)
    except pq.ModelFormatError:
        with pytest.raises(pq.ModelFormatError, match="entropy-coded trits"):
            _core.unpack_trits(bytes(stream), count)
    else:
        np.testing.assert_array_equal(_core.unpack_trits(bytes(stream), count), expected)
        assert _core.pack_trits(expected) == stream


def test_a_count_that_no_stream_can_hold_allocates_nothing() -> None:
    with pytest.raises(pq.ModelFormatError, match="20 bytes are no stream of"):
        _core.unpack_trits(_core.pack_trits(np.zeros(0, np.int8)), 1 << 50)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="code 2 at element 1"):
        _core.pack_trits(np.array([0, 2], np.int8))
    with pytest.raises(TypeError):
        _core.pack_trits(np.array([0.5]))  # type: ignore[arg-type]


# ---- a whole network in a file --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet18() -> EngineGraph:
    """ResNet-18 with BatchNorm folded and all 21 layers ternary, codes of activations in 8 bits."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    net = pq.zoo.randomize_batchnorm(pq.zoo.resnet18(), seed=0).eval()
    method = pq.PTQ(weight_bits="ternary", first_last=None, observer="minmax", bias_correction=False)
    return build_engine_graph(pq.quantize(net, method, example_inputs=(x,), calibration=[(x,)]), (x,))


def with_zeros(engine: EngineGraph, zeros: float) -> tuple[pq.Model, dict[int, Trits]]:
    """The network with other codes: each layer has this share of zeros, to one weight, at random places. Gives the codes by constant."""
    random = np.random.default_rng(0)
    entries, constants, codes = [], [], {}
    for i, (entry, constant) in enumerate(zip(engine.graph["constants"], engine.constants, strict=True)):
        if entry["dtype"] == "code":
            trits = np.ones(constant.size, np.int8)
            trits[: round(zeros * constant.size)] = 0
            trits *= random.choice(np.array([-1, 1], np.int8), constant.size)
            constant = codes[i] = random.permutation(trits).reshape(constant.shape)
            entry = {**entry, "packing": "trit_rans"}
        entries.append(entry)
        constants.append(constant)
    graph = {**engine.graph, "constants": entries}
    return pq.Model.from_bytes(_core.write_model(json.dumps(graph), constants, "test")), codes


def test_a_ternary_resnet18_takes_at_most_975_kb_and_runs_everywhere(resnet18: EngineGraph, tmp_path: Path) -> None:
    model, codes = with_zeros(resnet18, 0.8889)
    assert len(codes) == 21
    assert sum(trits.size for trits in codes.values()) == 11_678_912
    assert model.nbytes <= 975_000
    report = model.size_report(float_file_bytes=46_835_019)
    assert "48." in report.notes[1], report.notes
    file = report.rows[-1]
    assert file["code_bytes"] <= 1.01 * file["entropy_bytes"]
    assert file["entropy_bytes"] == pytest.approx(sum(entropy_bytes(trits) for trits in codes.values()))
    assert file["two_bit_bytes"] == 11_678_912 // 4
    assert file["entropy_bytes"] < file["xz_bytes"] < file["zlib_bytes"] < file["two_bit_bytes"]
    model.save(tmp_path / "resnet18.pqi")
    loaded = pq.load(tmp_path / "resnet18.pqi")
    for index, trits in codes.items():
        np.testing.assert_array_equal(loaded.constant(index), trits)
    x = np.random.default_rng(1).normal(size=(1, 3, 64, 64)).astype(np.float32)
    expected = pq.Session(loaded, threads=1, isa="reference")(x)
    assert np.ptp(expected) > 0
    for isa in pq.cpu_info()["isas"]:
        np.testing.assert_array_equal(pq.Session(loaded, threads=1, isa=isa)(x), expected, err_msg=isa)


def test_random_weights_with_90_percent_zeros_take_840_kb() -> None:
    sizes = [
        7 * 7 * 3 * 64,
        *4 * [9 * 64 * 64],
        9 * 64 * 128,
        *3 * [9 * 128 * 128],
        64 * 128,
        9 * 128 * 256,
        *3 * [9 * 256 * 256],
        128 * 256,
    ]
    sizes += [9 * 256 * 512, *3 * [9 * 512 * 512], 256 * 512, 512 * 1000]
    assert (len(sizes), sum(sizes)) == (21, 11_678_912)
    assert sum(len(_core.pack_trits(random_trits(n, 0.9, seed))) for seed, n in enumerate(sizes)) <= 840_000
