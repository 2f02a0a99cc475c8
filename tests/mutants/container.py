"""The container of docs/format.md in plain Python: any parts, put together with valid hashes, whether or not they are a model."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotate(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes) -> int:
    """XXH64 of the bytes with seed 0."""
    words = len(data) // 8
    lanes = struct.unpack(f"<{words}Q", data[: words * 8])
    at = 0
    if len(data) >= 32:
        v = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        for at in range(0, words - words % 4, 4):
            v = [_round(v[i], lanes[at + i]) for i in range(4)]
        at += 4
        h = sum(_rotate(x, bits) for x, bits in zip(v, (1, 7, 12, 18), strict=True)) & _MASK
        for x in v:
            h = ((h ^ _round(0, x)) * _P1 + _P4) & _MASK
    else:
        h = _P5
    h = (h + len(data)) & _MASK
    for lane in lanes[at:]:
        h = (_rotate(h ^ _round(0, lane), 27) * _P1 + _P4) & _MASK
    rest = data[words * 8 :]
    if len(rest) >= 4:
        h = (_rotate(h ^ struct.unpack("<I", rest[:4])[0] * _P1 & _MASK, 23) * _P2 + _P3) & _MASK
        rest = rest[4:]
    for byte in rest:
        h = _rotate(h ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    h = (h ^ h >> 33) * _P2 & _MASK
    h = (h ^ h >> 29) * _P3 & _MASK
    return h ^ h >> 32


@dataclass
class Tensor:
    """A tensor of the container: what its entry says, and its bytes."""

    name: str
    dtype: Any
    shape: Any
    data: bytes


@dataclass
class Parts:
    """What a file is made of. ``entries`` are added to the header as they are, after the tensors' own."""

    metadata: dict[str, Any]
    graph: Any
    tensors: list[Tensor]
    tail: bytes = b""


def read(file: bytes) -> Parts:
    """Take a valid file apart."""
    (size,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + size])
    metadata = header.pop("__metadata__")
    graph = json.loads(metadata.pop("graph"))
    del metadata["hashes"]
    tensors = []
    for name, entry in header.items():
        if not name.startswith("~"):
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors.append(Tensor(name, entry["dtype"], entry["shape"], file[begin:end]))
    return Parts(metadata, graph, tensors)


def write(parts: Parts) -> bytes:
    """Put a file together as the format's writer does: padding tensors, hashes and ``~hdr`` are added and hold."""
    entries: dict[str, Any] = {}
    data, hashes, pads = bytearray(), "", 0

    def add(name: str, dtype: Any, shape: Any, content: bytes) -> None:
        nonlocal hashes
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data.extend(content)
        if name != "~hdr":
            hashes += f"{xxh64(content):016x}"

    def align() -> None:
        nonlocal pads
        gap = -len(data) % 64
        if gap:
            add(f"~p{pads}", "U8", [gap], bytes(gap))
            pads += 1

    for tensor in parts.tensors:
        align()
        add(tensor.name, tensor.dtype, tensor.shape, tensor.data)
    align()
    add("~hdr", "U8", [8], bytes(8))
    graph = parts.graph if isinstance(parts.graph, str) else json.dumps(parts.graph, separators=(",", ":"), ensure_ascii=False)
    header = json.dumps({"__metadata__": {**parts.metadata, "graph": graph, "hashes": hashes}, **entries}, separators=(",", ":"))
    text = header.encode("utf-8", "surrogatepass")
    text += b" " * (-(8 + len(text)) % 64)
    head = struct.pack("<Q", len(text)) + text
    return head + bytes(data[:-8]) + struct.pack("<Q", xxh64(head)) + parts.tail
