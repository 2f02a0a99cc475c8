"""In front of which functions (SiLU, GELU, sigmoid, ...) a quantizer does no harm.

A network quantized in front of all of them is compared with itself without these quantizers. Where it is clearly worse, the quantizers that
make most noise behind their functions are left out, as few as will do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_leaves

from pyqinfer.quantization.graph import operand
from pyqinfer.quantization.placement import Placement

# Quantizers that let the squared error of the outputs rise by no more than this do no harm.
_SMALL_RISE = 2.0
_OPS = torch.ops.quantized_decomposed


def harmless(reference: GraphModule, trial: GraphModule, placement: Placement, data: Sequence[tuple[Tensor, ...]]) -> frozenset[str]:
    """Names of the tensors that may be quantized in front of functions.

    Args:
        reference: the float network.
        trial: a copy of it, whose nodes have the same names, quantized in all places of ``placement``.
        data: batches of inputs that the trial was not calibrated on.
    """
    trials = _Trials(reference, trial, placement, data)
    names = [node.name for node in placement.functions]
    limit = _SMALL_RISE * trials.error(without=names)
    if trials.error(without=()) <= limit:
        return frozenset(names)
    ranked = sorted(names, key=trials.noise.__getitem__)
    kept, too_many = 0, len(ranked)
    while too_many - kept > 1:
        tried = (kept + too_many) // 2
        if trials.error(without=ranked[tried:]) <= limit:
            kept = tried
        else:
            too_many = tried
    return frozenset(ranked[:kept])


class _Trials:
    def __init__(self, reference: GraphModule, trial: GraphModule, placement: Placement, data: Sequence[tuple[Tensor, ...]]) -> None:
        self.trial, self.data = trial, data
        self.noise: dict[str, float] = {}
        nodes = {node.name: node for node in trial.graph.nodes}
        self.quantizers: dict[Node, str] = {}  # quantize and dequantize nodes -> the tensor that they belong to
        for tensor in (*placement.bits, *placement.shared):
            root = placement.shared.get(tensor, tensor)
            if root in placement.functions:
                quantize = next(user for user in nodes[tensor.name].users if user.target is _OPS.quantize_per_tensor.default)
                self.quantizers |= dict.fromkeys((quantize, *quantize.users), root.name)
        self.functions = [
            (nodes[function.source.name], root.name, function) for root, found in placement.functions.items() for function in found
        ]
        with torch.no_grad():
            self.outputs = [tree_leaves(Interpreter(reference).run(*batch)) for batch in data]

    def error(self, without: Collection[str]) -> float:
        """Squared error of the outputs if the quantizers of some tensors are left out; notes the noise that the others make."""
        runner = _Partly(self, frozenset(without))
        total = 0.0
        with torch.no_grad():
            for batch, expected in zip(self.data, self.outputs, strict=True):
                found = tree_leaves(runner.run(*batch))
                total += sum(float((a - b).double().square().sum()) for a, b in zip(expected, found, strict=True))
        self.noise |= {name: noise / max(signal, torch.finfo().tiny) for name, (noise, signal) in runner.seen.items()}
        return total


class _Partly(Interpreter):
    """Runs a quantized graph without some of its quantizers.

    ``seen``: energy of the noise behind the functions of each of the others, and of what they should give.
    """

    def __init__(self, trials: _Trials, without: frozenset[str]) -> None:
        super().__init__(trials.trial)
        self._trials, self._without = trials, without
        self.seen: dict[str, tuple[float, float]] = {}

    def run_node(self, n: Node) -> Any:
        if self._trials.quantizers.get(n) in self._without:
            return self.fetch_args_kwargs_from_env(n)[0][0]
        result = super().run_node(n)
        if n.target is _OPS.quantize_per_tensor.default and n in self._trials.quantizers:
            x, *parameters = self.fetch_args_kwargs_from_env(n)[0]
            self._note(operand(n), x, _OPS.dequantize_per_tensor.default(result, *parameters))
        return result

    def _note(self, tensor: Node, x: Tensor, quantized: Tensor) -> None:
        for source, name, function in self._trials.functions:
            if source is tensor:
                exact = function(x)
                noise, signal = self.seen.get(name, (0.0, 0.0))
                noise += float((function(quantized) - exact).double().square().sum())
                self.seen[name] = noise, signal + float(exact.double().square().sum())
