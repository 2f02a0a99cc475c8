"""Block reconstruction (BRECQ, Li et al. 2021, arXiv 2102.05426): rounding learned so that a block's output stays what it was.

The block runs on inputs from the quantized network in front of it, with its own activations quantized (gradients pass straight through
inside the range), against the float network's output. Mini-batches come from a seed. The loss is the squared error, as a share of what
rounding to nearest makes, plus a penalty that decides each rounding: its exponent falls from 20 to 2 after a start without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from pyqinfer.quantization.aten_traits import op_name
from pyqinfer.quantization.calibrate import with_progress
from pyqinfer.quantization.rounding import SoftRounding

_BATCH = 32  # samples of a mini-batch, where the graph takes any batch
_FREE_SHARE = 0.2  # this share of the iterations has no penalty
_BETA = (20.0, 2.0)  # first and last exponent of the penalty
_PENALTY = 20.0  # weight of the mean penalty per weight, beside the error's share
_TRAVEL = 20.0  # the learning rate lets alpha go this far in all
_FASTEST = 0.1
_NO_ERROR = 1e-30
_OPS = torch.ops.quantized_decomposed


class BlockRunner:
    """A block of a quantized graph on stored inputs.

    Args:
        nodes: the block's nodes in order, its output last.
        inputs: values of what the block reads: tensors of all samples along dimension 0, and constants.
        target: the float network's output, all samples.
        constants: inputs that have one value for all samples.
        fixed_batch: the only batch that the graph takes, if any.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[Node, Any],
        target: Tensor,
        constants: frozenset[Node],
        fixed_batch: int | None = None,
    ) -> None:
        self._nodes, self._inputs, self._target, self._constants = nodes, inputs, target, constants
        self._batch = fixed_batch or min(_BATCH, len(target))

    @property
    def samples(self) -> int:
        return len(self._target)

    def is_by_sample(self) -> bool:
        """Whether all that varies has one row per sample, or is the number of samples, so that samples can be drawn."""
        varying = [node for node in self._inputs if node not in self._constants and not _is_batch_size(node)]
        return all(isinstance(value, Tensor) and value.shape[:1] == (self.samples,) for value in map(self._inputs.get, varying))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Indices of the samples of a mini-batch."""
        return torch.randint(self.samples, (self._batch,), generator=generator)

    def error(self, rows: Tensor, weights: Mapping[Node, Tensor]) -> Tensor:
        """Mean squared error over some samples, with some weights (by their dequantize node) exchanged."""
        env: dict[Node, Any] = {node: self._input(node, rows) for node in self._inputs}
        env.update(weights)
        for node in self._nodes:
            env[node] = _evaluate(node, env)
        output: Tensor = env[self._nodes[-1]]
        return (output - self._target[rows]).square().mean()

    def total_error(self, weights: Mapping[Node, Tensor]) -> float:
        """Mean squared error over all samples, without gradients."""
        with torch.no_grad():
            parts = torch.split(torch.arange(self.samples), self._batch)
            return sum(float(self.error(rows, weights)) * len(rows) for rows in parts) / self.samples

    def _input(self, node: Node, rows: Tensor) -> Any:
        if node in self._constants:
            return self._inputs[node]
        return len(rows) if _is_batch_size(node) else self._inputs[node][rows]


def _is_batch_size(node: Node) -> bool:
    return op_name(node) == "sym_size" and bool(node.args[1] == 0)


def _evaluate(node: Node, env: Mapping[Node, Any]) -> Any:
    args: Any = map_arg(node.args, env.__getitem__)
    kwargs: Any = map_arg(node.kwargs, env.__getitem__)
    if node.target is _OPS.quantize_per_tensor.default:
        return torch.fake_quantize_per_tensor_affine(*args[:5])
    if node.target is _OPS.dequantize_per_tensor.default and args[0].dtype == torch.float32:
        return args[0]  # A quantizer inside the block gave floats, see above.
    assert callable(node.target)
    return node.target(*args, **kwargs)


def learn(runner: BlockRunner, roundings: Mapping[Node, SoftRounding], iterations: int, seed: int, text: str) -> tuple[float, float]:
    """Learn the rounding of a block's weights, given by the node that dequantizes each.

    Returns:
        The block's mean squared error with weights rounded to nearest and with ``codes()`` of the roundings.
    """
    nearest = runner.total_error({})
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([rounding.alpha for rounding in roundings.values()], lr=min(_FASTEST, _TRAVEL / iterations))
    count = sum(rounding.alpha.numel() for rounding in roundings.values())
    for i in with_progress(range(iterations), text):
        rows = runner.draw(generator)
        loss = runner.error(rows, {node: rounding.weight() for node, rounding in roundings.items()}) / max(nearest, _NO_ERROR)
        beta = _beta(i / iterations)
        if beta is not None:
            loss = loss + _PENALTY / count * sum(rounding.penalty(beta) for rounding in roundings.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return nearest, runner.total_error({node: rounding.hard_weight() for node, rounding in roundings.items()})


def _beta(progress: float) -> float | None:
    """The penalty's exponent once a share ``progress`` of the iterations is done; None while there is no penalty."""
    if progress < _FREE_SHARE:
        return None
    return _BETA[0] + (_BETA[1] - _BETA[0]) * (progress - _FREE_SHARE) / (1 - _FREE_SHARE)
