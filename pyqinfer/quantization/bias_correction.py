"""Bias correction: rounding weights and activations moves the mean of a layer's output, and the bias moves it back.

``b_c += E[y_fp,c] - E[y_q,c]`` in front of the activation function, over the calibration set, in execution order with all earlier
layers quantized and corrected (Nagel et al. 2019, arXiv 1906.04721, section 4.2, with data).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.fx import GraphModule

from pyqinfer.quantization.calibrate import calibrate
from pyqinfer.quantization.graph import Layer


class ChannelMean:
    """Mean of each channel of a layer's output over all batches, in float64."""

    def __init__(self, op: str) -> None:
        self._axis = -1 if op == "linear" else 1
        self._sum: Tensor | float = 0.0
        self._count = 0

    def observe(self, x: Tensor) -> None:
        rows = x.movedim(self._axis, 0).reshape(x.shape[self._axis], -1)
        self._sum = self._sum + rows.double().sum(1)
        self._count += rows.shape[1]

    @property
    def value(self) -> Tensor:
        assert isinstance(self._sum, Tensor)
        return self._sum / self._count


def channel_means(module: GraphModule, layers: Iterable[Layer], data: Sequence[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """Layer name -> mean output [channels] of the layer's node in ``module``, found by its name."""
    nodes = {node.name: node for node in module.graph.nodes}
    means = {layer.name: (nodes[layer.node.name], ChannelMean(layer.op)) for layer in layers}
    calibrate(module, dict(means.values()), data)
    return {name: mean.value for name, (_, mean) in means.items()}


def correction(layer: Layer, outputs: Sequence[Tensor], expected: Mapping[str, Tensor]) -> Tensor:
    """What to add to a layer's bias [channels] so that its outputs, one per batch, have the expected means."""
    mean = ChannelMean(layer.op)
    for output in outputs:
        mean.observe(output)
    return (expected[layer.name] - mean.value).float()


def add_to_channels(layer: Layer, outputs: Sequence[Tensor], delta: Tensor) -> None:
    """The same, done to outputs that were computed with the old bias."""
    shape = delta if layer.op == "linear" else delta.reshape(-1, *[1] * (outputs[0].ndim - 2))
    for output in outputs:
        output.add_(shape)
