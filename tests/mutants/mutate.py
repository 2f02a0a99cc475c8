"""Changes of a file's parts that a grammar would make: numbers, names, lists and objects of the graph, entries and bytes of tensors."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable
from typing import Any

from mutants.container import Parts, Tensor

NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**32]
NUMBERS += [2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -1, 0x7F800000, 0x7FC00000, 0xFF800000, 0x00000001, 0x3F800000]
TEXTS = ["", "x", "y", "N", "?", "none", "relu", "clamp", "f32", "u8", "i32", "code", "nibble", "trit5", "dense", "trit_rans", "add", "sub"]
TEXTS += ["div", "same", "to_nhwc", "to_nchw", "mean", "amax", "~hdr", "~p0", "../a", "\x00", "\u0085", "\u202e", "\ud800", "x" * 257]
WORDS = [0, 1, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0x00800000, 0x00000001, 0x3F800000, 0x7FFFFFFF, 0xFFFFFFFF]

Path = tuple[Any, ...]


def _places(value: Any, path: Path = ()) -> list[Path]:
    """Paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _at(root: Any, path: Path) -> Any:
    for key in path:
        root = root[key]
    return root


def _other(value: Any, rng: random.Random, symbols: list[Any]) -> Any:
    """Give another value, mostly of the same kind."""
    if rng.random() < 0.05:
        return rng.choice([None, True, 1.5, [], {}, 0, "x", [value], {"x": value}])
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        if rng.random() < 0.5:
            return max(value + rng.choice([-2, -1, 1, 2]), 0)
        return rng.choice([*symbols, *NUMBERS]) if rng.random() < 0.2 else rng.choice(NUMBERS)
    if isinstance(value, str):
        return rng.choice(TEXTS)
    if isinstance(value, list):
        changed = list(value)
        action = rng.randrange(4)
        if action == 0 or not changed:
            changed.append(copy.deepcopy(rng.choice(value)) if value else 1)
        elif action == 1:
            del changed[rng.randrange(len(changed))]
        elif action == 2:
            rng.shuffle(changed)
        else:
            changed.insert(rng.randrange(len(changed) + 1), copy.deepcopy(rng.choice(value)))
        return changed
    changed_object = dict(value)
    if changed_object and rng.random() < 0.5:
        del changed_object[rng.choice(list(changed_object))]
    else:
        changed_object[rng.choice(TEXTS)] = rng.choice(NUMBERS)
    return changed_object


def _graph(parts: Parts, rng: random.Random) -> None:
    if isinstance(parts.graph, str):
        return
    places = _places(parts.graph)
    # Attributes, shapes and ids decide what runs: they get half of the changes.
    chosen = [p for p in places if "attrs" in p or "shape" in p or "inputs" in p or "quant" in p] if rng.random() < 0.5 else places
    path = rng.choice(chosen or places)
    _at(parts.graph, path[:-1])[path[-1]] = _other(_at(parts.graph, path), rng, list(parts.graph.get("symbols", [])))


def _swap(parts: Parts, rng: random.Random) -> None:
    """Put one part of the graph in the place of another of its kind."""
    if isinstance(parts.graph, str):
        return
    places = _places(parts.graph)
    to = rng.choice(places)
    kind = type(_at(parts.graph, to))
    source = rng.choice([p for p in places if isinstance(_at(parts.graph, p), kind)])
    _at(parts.graph, to[:-1])[to[-1]] = copy.deepcopy(_at(parts.graph, source))


def _open(parts: Parts, rng: random.Random) -> None:
    """Make a dimension of an input a symbol, new or old, and let every other shape be inferred as it is stored."""
    graph = parts.graph
    if isinstance(graph, str) or not all(isinstance(graph.get(key), list) for key in ("symbols", "values", "inputs")):
        return
    values = [v for v in graph["values"] if isinstance(v, dict) and isinstance(v.get("shape"), list) and v["shape"]]
    if not values:
        return
    name = rng.choice([*graph["symbols"], "S"])
    if name not in graph["symbols"]:
        graph["symbols"].append(name)
    for value in rng.sample(values, rng.randint(1, len(values))):
        value["shape"][rng.randrange(len(value["shape"]))] = name


def _entry(parts: Parts, rng: random.Random) -> None:
    tensor = rng.choice(parts.tensors)
    what = rng.choice(["dtype", "shape", "name"])
    if what == "dtype":
        tensor.dtype = rng.choice(["F32", "I32", "U8", "I8", "F64", "", 1])
    elif what == "shape" and isinstance(tensor.shape, list):
        tensor.shape = _other(tensor.shape, rng, []) if rng.random() < 0.5 else [_other(d, rng, []) for d in tensor.shape]
    else:
        tensor.name = rng.choice([*TEXTS, *(t.name for t in parts.tensors)])


def _bytes(parts: Parts, rng: random.Random) -> None:
    tensor: Tensor = rng.choice(parts.tensors)
    if not tensor.data:
        return
    data, action = bytearray(tensor.data), rng.randrange(4)
    if action == 0:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == 1:
        data[rng.randrange(len(data))] = rng.choice([0, 1, 127, 128, 129, 242, 243, 255])
    elif action == 2 and len(data) >= 4:
        struct.pack_into("<I", data, rng.randrange(len(data) // 4) * 4, rng.choice(WORDS))
    else:
        size = rng.choice([0, 1, len(data) - 1, len(data) + 1, 2 * len(data)])
        data = (data * 2)[:size] if size else bytearray()
    tensor.data = bytes(data)


def _metadata(parts: Parts, rng: random.Random) -> None:
    key = rng.choice([*parts.metadata, "x"])
    if rng.random() < 0.3:
        parts.metadata.pop(key, None)
    else:
        texts = ["", "1.0", "1.1", "1.7", "2.0", "trit_rans", "conditions", "trit_rans,conditions", "x", "pyqinfer", "\ud800", 1, None]
        parts.metadata[key] = rng.choice(texts)


def _order(parts: Parts, rng: random.Random) -> None:
    action = rng.randrange(3)
    if action == 0:
        rng.shuffle(parts.tensors)
    elif action == 1:
        parts.tensors.append(copy.copy(rng.choice(parts.tensors)))
    else:
        parts.tail = bytes(rng.choice([1, 8, 64]))


_CHANGES: list[tuple[int, Callable[[Parts, random.Random], None]]] = [
    (12, _graph), (3, _swap), (2, _open), (1, _entry), (4, _bytes), (1, _metadata), (1, _order),
]  # fmt: skip


def mutate(parts: Parts, rng: random.Random) -> Parts:
    """Give the parts with one to four changes; most have one, because few of many are still models."""
    changed = copy.deepcopy(parts)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 4])):
        (change,) = rng.choices([c for _, c in _CHANGES], [weight for weight, _ in _CHANGES])
        if parts.tensors or change not in (_entry, _bytes, _order):
            change(changed, rng)
    return changed
