"""Bits that a user chose, for methods that do not choose themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyqinfer.bits import FLOAT, BitConfig, LayerBits, WeightBits, parse_bits


@dataclass(frozen=True)
class ChosenBits:
    """Bits of every layer.

    Args:
        weight_bits: 2..8, "ternary" or 32 (float), for every layer.
        act_bits: bits of every layer's input, 2..8 or 32 (float).
        first_last: bits of the first and the last layer in execution order, where all others have fewer; None: like the others.
        bits: layer name -> bits, e.g. from ``pq.allocate`` or ``BitConfig.load``; layers it does not name get the bits above.

    Raises:
        TypeError, ValueError: widths that do not exist, or bits of layers that are no mapping.
    """

    weight_bits: WeightBits = 8
    act_bits: int = 8
    first_last: str | LayerBits | None = "8/8"
    bits: Mapping[str, LayerBits | str] | None = None

    def __post_init__(self) -> None:
        LayerBits(self.weight_bits, self.act_bits)
        if self.first_last is not None:
            try:
                parse_bits(self.first_last)
            except (TypeError, ValueError) as error:
                raise type(error)(f"first_last: {error}") from None
        if self.bits is not None:
            if not isinstance(self.bits, Mapping):
                raise TypeError(
                    f'bits: expected a mapping of layers to bits such as {{"fc": "4/8"}}, got {self.bits!r};'
                    " weight_bits= and act_bits= are for all layers"
                )
            BitConfig(self.bits)

    def layer_bits(self, names: list[str], keep: Mapping[str, LayerBits | str]) -> BitConfig:
        """Bits of every layer: ``keep`` over ``bits`` over ``first_last`` over ``weight_bits``/``act_bits``."""
        default = LayerBits(self.weight_bits, self.act_bits)
        config = BitConfig(dict.fromkeys(names, default))
        if self.first_last is not None and not default.is_float and names:
            ends = parse_bits(self.first_last)
            if not default.is_integer:
                ends = LayerBits(ends.weight, FLOAT)
            config = BitConfig({**config, names[0]: ends, names[-1]: ends})
        return config.override(self.bits or {}).override(keep)
