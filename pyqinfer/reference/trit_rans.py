"""Entropy-coded trits of docs/format.md, decoded as that page says it: slow, without regard for speed, the oracle of the native coder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyqinfer.errors import ModelFormatError

_SLOTS, _LEAST, _LANES, _WORD = 4096, 4, 4, 65536


def frequencies(codes: NDArray[np.int8]) -> tuple[int, int, int]:
    """Give the frequencies of -1, 0 and 1, which sum to 4096, for codes with these counts."""
    n = codes.size
    minus, plus = (max(_LEAST, (_SLOTS * int((codes == v).sum()) + n // 2) // n) if n else _LEAST for v in (-1, 1))
    excess = max(0, minus + plus - (_SLOTS - _LEAST))
    minus, plus = (minus, plus - excess) if plus > minus else (minus - excess, plus)
    return minus, _SLOTS - minus - plus, plus


def decode(stream: bytes, count: int) -> NDArray[np.int8]:
    """Give the ``count`` codes of a stream. Raises ModelFormatError where no array of that size has this stream."""
    if len(stream) < 4 + 4 * _LANES or len(stream) % 2 or count > 4096 * len(stream):
        raise ModelFormatError(f"{len(stream)} bytes are no stream of {count} codes")
    minus, plus = (int(f) for f in np.frombuffer(stream, "<u2", 2))
    frequency = (minus, _SLOTS - minus - plus, plus)
    states = [int(x) for x in np.frombuffer(stream, "<u4", _LANES, 4)]
    words = iter(np.frombuffer(stream, "<u2", offset=4 + 4 * _LANES).tolist())
    if min(frequency) < _LEAST or min(states) < _WORD:
        raise ModelFormatError("a frequency or a state is too small")
    begin = (0, minus, minus + frequency[1])
    codes = np.zeros(count, np.int8)
    for i in range(count):
        quotient, slot = divmod(states[i % _LANES], _SLOTS)
        symbol = sum(slot >= b for b in begin[1:])
        state = frequency[symbol] * quotient + slot - begin[symbol]
        if state < _WORD:
            word = next(words, None)
            if word is None:
                raise ModelFormatError("the stream ends too early")
            state = _WORD * state + word
        states[i % _LANES] = state
        codes[i] = symbol - 1
    if next(words, None) is not None or states != [_WORD] * _LANES or frequencies(codes) != frequency:
        raise ModelFormatError("the stream is not the one of its codes")
    return codes
