"""Size and bit operations of a network's layers, in the conventions of the papers that print them.

===========  ==================================================================================================================
neutral      size: weights of conv and linear layers; BOPs: MACs x weight bits x activation bits, each layer at its own bits (HAWQ,
             ZeroQ and this package's reports count so)
saq          neutral BOPs, with the first and the last layer at 8/8 whatever they are given (Liu et al. 2021, arXiv 2111.12273)
ompq         size with biases, gamma and beta at their layer's bits; BOPs with 5 operations more per output element of a convolution
             for BatchNorm and ReLU, linear layers at 2 operations per MAC and 1 for the bias, first and last layer at 8/8 (Ma et
             al. 2023, arXiv 2109.07865)
===========  ==================================================================================================================

Float counts 32 bits. A ternary weight counts 2 bits in BOPs and 1.6 bits in a size: a file holds five in a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyqinfer.bits import FLOAT, LayerBits
from pyqinfer.quantization.nodes import QuantNode

MIB = 2**20
CONVENTIONS = ("neutral", "saq", "ompq")
_EIGHT = LayerBits(8, 8)


def weight_bits(bits: LayerBits) -> float:
    """Bits that a weight takes in a file."""
    return 1.6 if bits.weight == "ternary" else float(bits.weight)


def layer_bops(node: QuantNode, bits: LayerBits, convention: str = "neutral") -> int:
    """Bit operations of one layer for one sample. A layer whose input is not quantized multiplies floats.

    Raises ValueError for an unknown convention.
    """
    _check(convention)
    if convention != "neutral" and (node.is_first or node.is_last) and not bits.is_float:
        bits = _EIGHT
    if not bits.is_integer:
        return _operations(node, convention) * FLOAT * FLOAT
    return _operations(node, convention) * (2 if bits.weight == "ternary" else bits.weight) * bits.act


def network_bops(nodes: Sequence[QuantNode], bits: Mapping[str, LayerBits], convention: str = "neutral") -> int:
    """Bit operations of all layers for one sample."""
    return sum(layer_bops(node, bits[node.name], convention) for node in nodes)


def float_bops(nodes: Sequence[QuantNode]) -> int:
    """Bit operations of the float network: 1024 x MACs, in every convention."""
    return sum(node.macs for node in nodes) * FLOAT * FLOAT


def layer_parameters(node: QuantNode, convention: str = "neutral") -> int:
    """How many parameters of a layer its bits are spent on. Raises ValueError for an unknown convention."""
    _check(convention)
    return node.params + (node.bias + node.bn_params if convention == "ompq" else 0)


def layer_mib(node: QuantNode, bits: LayerBits, convention: str = "neutral") -> float:
    """MiB (2**20 bytes) of one layer."""
    return layer_parameters(node, convention) * weight_bits(bits) / 8 / MIB


def network_mib(nodes: Sequence[QuantNode], bits: Mapping[str, LayerBits], convention: str = "neutral") -> float:
    """MiB (2**20 bytes) of all layers."""
    return sum(layer_mib(node, bits[node.name], convention) for node in nodes)


def average_weight_bits(nodes: Sequence[QuantNode], bits: Mapping[str, LayerBits]) -> float:
    """Bits per weight over all conv and linear layers."""
    return sum(node.params * weight_bits(bits[node.name]) for node in nodes) / sum(node.params for node in nodes)


def budget_costs(nodes: Sequence[QuantNode], convention: str = "neutral") -> dict[str, Callable[[QuantNode, LayerBits], float]]:
    """Cost name -> what a layer takes of it with bits, for the costs of :mod:`pyqinfer.budget` that follow from shapes and bits.

    Times have to be measured: see :mod:`pyqinfer.allocation.latency`. ``convention`` is that of sizes.
    """
    total, in_float = sum(node.params for node in nodes), float_bops(nodes)
    return {
        "bops": lambda node, bits: layer_bops(node, bits) / in_float,
        "size_mb": lambda node, bits: layer_mib(node, bits, convention),
        "avg_weight_bits": lambda node, bits: node.params * weight_bits(bits) / total,
    }


def _operations(node: QuantNode, convention: str) -> int:
    if convention != "ompq":
        return node.macs
    outputs = node.positions * node.weight_shape[0]
    return 2 * node.macs + outputs if node.op == "linear" else node.macs + 5 * outputs


def _check(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: expected one of {', '.join(CONVENTIONS)}, got {convention!r}")
