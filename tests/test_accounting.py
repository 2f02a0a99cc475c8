"""MACs, BOPs and bytes from a hand-made graph with known answers."""

from __future__ import annotations

from typing import Any

from pyqinfer.accounting import layer_costs

GRAPH: dict[str, Any] = {
    "quants": [{"bits": 8}, {"bits": 4}],
    "constants": [
        {"name": "w", "dtype": "code", "shape": [16, 3, 3, 8], "bits": 4},
        {"name": "v", "dtype": "f32", "shape": [10, 16]},
        {"name": "d", "dtype": "code", "shape": [16, 3, 3, 1], "bits": 2},
    ],
    "values": [
        {"dtype": "u8", "quant": 0},
        {"dtype": "u8", "quant": 1},
        {"dtype": "f32"},
        {"dtype": "f32"},
        {"dtype": "u8", "quant": 1},
    ],
    "nodes": [
        {"name": "conv", "op": "conv2d", "inputs": [0], "outputs": [1], "constants": {"weight": 0}},
        {"name": "dw", "op": "conv2d", "inputs": [1], "outputs": [4], "constants": {"weight": 2}},
        {"name": "deq", "op": "dequantize", "inputs": [4], "outputs": [2], "constants": {}},
        {"name": "fc", "op": "linear", "inputs": [2], "outputs": [3], "constants": {"weight": 1}},
    ],
}
SHAPES = [(2, 5, 5, 8), (2, 5, 5, 16), (2, 16), (2, 10), (2, 5, 5, 16)]


def test_macs_and_bops_follow_the_convention() -> None:
    conv, depthwise, dequantize, fc = layer_costs(GRAPH, SHAPES, [576, 640, 36])
    assert (conv.macs, conv.weight_bits, conv.act_bits) == (2 * 25 * 16 * 9 * 8, 4, 8)
    assert conv.bops == conv.macs * 4 * 8
    assert (depthwise.macs, depthwise.weight_bits, depthwise.act_bits) == (2 * 25 * 16 * 9, 2, 4)
    assert (dequantize.macs, dequantize.bops) == (0, 0)
    assert (fc.macs, fc.bops) == (2 * 160, 2 * 160 * 1024)
    assert [c.integer for c in (conv, depthwise, fc)] == [True, True, False]


def test_bytes_are_those_of_the_nodes_constants() -> None:
    assert [cost.bytes for cost in layer_costs(GRAPH, SHAPES, [576, 640, 36])] == [576, 36, 0, 640]


def test_quantized_weights_with_float_input_count_as_float() -> None:
    graph = {**GRAPH, "values": [{"dtype": "f32"}, *GRAPH["values"][1:]]}
    conv = layer_costs(graph, SHAPES, [576, 640, 36])[0]
    assert (conv.weight_bits, conv.act_bits, conv.integer) == (32, 32, False)
