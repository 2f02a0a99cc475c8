"""Entropy-coded trits: the native coder against the page that describes it, and what a whole network takes in a file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pyqinfer as pq
from pyqinfer import _core
from pyqinfer.reference import trit_rans

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
