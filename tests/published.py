"""Bit lists that papers and their code published, one entry for each of `entries(nodes)`, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.quantization.nodes import QuantNode, entries

# OMPQ's lists for post-training quantization: for each budget in MiB the bits, and the size in MiB of the list itself.
OMPQ_RESNET18 = {
    3.0: ("434444434422222222", 2.9983),
    3.5: ("433444444433432223", 3.4988),
    4.0: ("444444433333432333", 4.0000),
    4.5: ("433444444433443333", 4.4994),
    5.0: ("433344434343433444", 4.9997),
    5.5: ("444444444434444444", 5.4997),
}
OMPQ_MOBILENET_V2 = {
    1.5: ("4" * 52 + "3", 1.5185),
    1.3: ("4" * 50 + "332", 1.2800),
    1.1: ("4" * 41 + "334334334222", 1.0908),
    0.9: ("4" * 21 + "34334334334" + "324224224224224224222", 0.8953),
}
# These lists name the layers of the body only; stem and classifier have 8 bits.
OMPQ_RESNET18_QAT = "8888788884684444"
SAQ_RESNET20 = "542" + "4" * 15
SAQ_RESNET18 = "4332332333433332"


def listed(nodes: Sequence[QuantNode], digits: str, act: int | None = None, ends: str | None = None) -> BitConfig:
    """The bits that a list gives to every layer.

    ``act``: activation bits; the weights' bits if None. ``ends``: bits of first and last layer where the list leaves these out.
    """
    groups = entries(nodes)
    config = BitConfig({groups[0][0].name: ends, groups[-1][0].name: ends} if ends is not None else {})
    body = groups[1:-1] if ends is not None else groups
    bits = {node.name: LayerBits(int(digit), act or int(digit)) for group, digit in zip(body, digits, strict=True) for node in group}
    return BitConfig({node.name: {**config, **bits}[node.name] for node in nodes})
