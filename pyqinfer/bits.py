"""Bits per layer: what an allocation gives, what a quantization method takes, and a JSON file that people edit by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

FLOAT = 32
WeightBits = int | Literal["ternary"]

_FILE_FORMAT = "pyqinfer-bits"
_FILE_VERSION = 1


@dataclass(frozen=True)
class LayerBits:
    """Bits of one conv or linear layer.

    Args:
        weight: 2..8, ``"ternary"`` (codes -1, 0, 1) or 32 (float).
        act: bits of the layer's input, 2..8 or 32 (float). With float weights it must be 32: the layer runs in float.

    Raises:
        ValueError: any other number, or quantized activations with float weights.
    """

    weight: WeightBits
    act: int

    def __post_init__(self) -> None:
        if self.weight != "ternary" and not _is_width(self.weight):
            raise ValueError(f"weight bits: expected 2..8, 'ternary' or {FLOAT} (float), got {self.weight!r}")
        if not _is_width(self.act):
            raise ValueError(f"activation bits: expected 2..8 or {FLOAT} (float), got {self.act!r}")
        if self.weight == FLOAT and self.act != FLOAT:
            raise ValueError(f"{self.act}-bit activations need quantized weights; use 'float' to keep a layer in float")

    @property
    def is_float(self) -> bool:
        """Whether neither weights nor activations are quantized."""
        return self.weight == FLOAT

    @property
    def is_integer(self) -> bool:
        """Whether the layer multiplies integers."""
        return self.act != FLOAT

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest weight code: symmetric and narrow, -1..1 for ternary. Raises ValueError for float weights."""
        if self.weight == "ternary":
            return -1, 1
        if self.weight == FLOAT:
            raise ValueError("float weights have no code range")
        top = 2 ** (self.weight - 1) - 1
        return -top, top

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        weight = "t" if self.weight == "ternary" else str(self.weight)
        return f"{weight}/{self.act}"


def _is_width(bits: object) -> bool:
    return isinstance(bits, int) and not isinstance(bits, bool) and (2 <= bits <= 8 or bits == FLOAT)


def parse_bits(text: str | LayerBits) -> LayerBits:
    """``"4/8"`` (weights/activations), ``"t/8"`` (ternary weights), ``"4/32"`` (weights only) or ``"float"``.

    Raises:
        ValueError: anything else; TypeError: not a string.
    """
    if isinstance(text, LayerBits):
        return text
    if not isinstance(text, str):
        raise TypeError(f"bits: expected a string such as '4/8', got {type(text).__name__}")
    if text.strip().lower() == "float":
        return LayerBits(FLOAT, FLOAT)
    weight, separator, act = (part.strip().lower() for part in text.partition("/"))
    ternary = weight in ("t", "ternary")
    if not separator or not act.isdigit() or not (ternary or weight.isdigit()):
        raise ValueError(f"bits {text!r}: expected WEIGHT/ACTIVATION such as '4/8' or 't/8', or 'float'")
    try:
        return LayerBits("ternary" if ternary else int(weight), int(act))
    except ValueError as error:
        raise ValueError(f"bits {text!r}: {error}") from None


class BitConfig(Mapping[str, LayerBits]):
    """A mapping of layer names to :class:`LayerBits`, in execution order. Values may be given as strings (``"4/8"``)."""

    def __init__(self, layers: Mapping[str, LayerBits | str] | Iterable[tuple[str, LayerBits | str]] = ()) -> None:
        if not isinstance(layers, Mapping):
            layers = list(layers)
            if not all(isinstance(item, (tuple, list)) and len(item) == 2 for item in layers):
                raise TypeError('layers: expected a mapping such as {"fc": "4/8"}, or pairs of a layer and its bits')
        items = layers.items() if isinstance(layers, Mapping) else layers
        self._layers: dict[str, LayerBits] = {}
        for name, bits in items:
            try:
                self._layers[name] = parse_bits(bits)
            except (TypeError, ValueError) as error:
                raise type(error)(f"layer {name!r}: {error}") from None

    def __getitem__(self, name: str) -> LayerBits:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"BitConfig({ {name: str(bits) for name, bits in self.items()} })"

    def override(self, keep: Mapping[str, LayerBits | str]) -> BitConfig:
        """These bits with some layers changed: keys of ``keep`` are layer names or glob patterns, later ones win.

        Raises:
            ValueError: a pattern that matches no layer.
        """
        layers = dict(self._layers)
        for pattern, bits in keep.items():
            names = match_layers(pattern, layers)
            try:
                layers.update(dict.fromkeys(names, parse_bits(bits)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"keep[{pattern!r}]: {error}") from None
        return BitConfig(layers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON with one line per layer."""
        layers = {name: str(bits) for name, bits in self.items()}
        document = {"format": _FILE_FORMAT, "version": _FILE_VERSION, "layers": layers}
        Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BitConfig:
        """Read a file written by :meth:`save` or by hand.

        Raises:
            OSError: it cannot be read. ValueError: not such a file; the message names the layer at fault.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: not a JSON file of bits: {error}") from None
        if not isinstance(document, dict) or document.get("format") != _FILE_FORMAT:
            raise ValueError(f'{os.fspath(path)}: expected a JSON object with "format": "{_FILE_FORMAT}"')
        if document.get("version") != _FILE_VERSION:
            raise ValueError(f"{os.fspath(path)}: version {document.get('version')!r}, expected {_FILE_VERSION}")
        layers = document.get("layers")
        if not isinstance(layers, dict) or not all(isinstance(bits, str) for bits in layers.values()):
            raise ValueError(f'{os.fspath(path)}: "layers" must map layer names to bits such as "4/8"')
        try:
            return cls(layers)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None


def match_layers(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a name or glob pattern selects (``*`` also crosses dots). Raises ValueError if there is none."""
    names = list(names)
    found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise ValueError(f"no layer matches {pattern!r}; the layers are {shown or '(none)'}")
    return found


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"{key!r} appears twice")
        result[key] = value
    return result
