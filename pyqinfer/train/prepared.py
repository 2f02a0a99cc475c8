"""The module that trains: a traced model whose layers, BatchNorms and quantized edges are modules with parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer.bits import BitConfig
from pyqinfer.quantization.emit import emit_activations, emit_weight
from pyqinfer.quantization.graph import Layer, TracedModel
from pyqinfer.quantization.placement import Placement
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.layers import TrainedLayer, TrainedNorm
from pyqinfer.train.weights import TrainedWeight


@dataclass(frozen=True)
class Blueprint:
    """What a prepared module was made from and is exported into; it never changes, so that copies of the module share it.

    Attributes:
        traced: the float model, folded and equalized, without quantizers; its nodes have the names that the edges go by.
        bits: of every layer. placement: where quantizers stand.
        layers, edges, norms: name of a layer, of a node of ``placement.bits``, of a node of a BatchNorm that could not be folded -> the
            path of its module within the prepared module's graph.
    """

    traced: TracedModel
    bits: BitConfig
    placement: Placement
    layers: Mapping[str, str]
    edges: Mapping[str, str]
    norms: Mapping[str, str]

    def __deepcopy__(self, memo: dict[int, Any]) -> Blueprint:
        return self


class Prepared(nn.Module):
    """A model in training for low precision: called like the model, trained like any module, exported by :meth:`finish`.

    Attributes:
        graph: the traced model with a :class:`~pyqinfer.train.layers.TrainedLayer` for each layer and a
            :class:`~pyqinfer.train.activations.TrainedActivation` on each quantized edge.
        blueprint: what it was made from.
    """

    def __init__(self, graph: GraphModule, blueprint: Blueprint) -> None:
        super().__init__()
        self.graph = graph
        self.blueprint = blueprint

    @property
    def bits(self) -> BitConfig:
        """Bits of every layer."""
        return self.blueprint.bits

    def forward(self, *inputs: Tensor) -> Any:
        weights = list(self.weights())
        for weight in weights:
            weight.begin_pass()
        try:
            return self.graph(*inputs)
        finally:
            for weight in weights:
                weight.end_pass()

    def layer(self, name: str) -> TrainedLayer:
        """The module of a layer, by the name that it has in ``bits``."""
        found = self.graph.get_submodule(self.blueprint.layers[name])
        assert isinstance(found, TrainedLayer)
        return found

    def weights(self) -> Iterator[TrainedWeight]:
        """Every parametrization once, in the order of execution."""
        return (module for module in self.graph.modules() if isinstance(module, TrainedWeight))

    def activations(self) -> Iterator[TrainedActivation]:
        """Every quantizer of an activation."""
        return (module for module in self.graph.modules() if isinstance(module, TrainedActivation))

    def norms(self) -> Iterator[TrainedNorm]:
        """Every BatchNorm."""
        return (module for module in self.graph.modules() if isinstance(module, TrainedNorm))

    @property
    def is_frozen(self) -> bool:
        """Whether there are BatchNorms, and all are frozen."""
        norms = list(self.norms())
        return bool(norms) and all(norm.frozen for norm in norms)

    def freeze_batch_norm(self) -> None:
        """Every BatchNorm uses its running statistics from now on, as the exported graph will."""
        for norm in self.norms():
            norm.freeze()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for an optimizer: latent weights with weight decay; steps, BatchNorms, biases and other vectors without."""
        steps = {id(p) for module in self.modules() for name, p in module.named_parameters(recurse=False) if name == "step"}
        learned = [p for p in self.parameters() if p.requires_grad]
        decayed = [p for p in learned if p.ndim > 1 and id(p) not in steps]
        kept = {id(p) for p in decayed}
        others = [p for p in learned if id(p) not in kept]
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]

    def finish(self) -> GraphModule:
        """The PT2E graph of what has been learned so far, on the CPU; this module stays as it is.

        BatchNorms are folded into scales and biases, with their running statistics.
        """
        plan = self.blueprint
        traced = plan.traced.copy()
        self._copy_loose_tensors(traced)
        for layer in traced.layers:
            self._export(traced, layer)
        nodes = {node.name: node for node in traced.module.graph.nodes}
        for name, path in plan.norms.items():
            norm = self.graph.get_submodule(path)
            assert isinstance(norm, TrainedNorm)
            tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            constants = [traced.add_constant(f"{name}.norm", t.detach().cpu().clone(), nodes[name]) for t in tensors]
            nodes[name].args = (nodes[name].args[0], *constants, *nodes[name].args[5:])
        params = {}
        for name, path in plan.edges.items():
            activation = self.graph.get_submodule(path)
            assert isinstance(activation, TrainedActivation)
            params[nodes[name]] = activation.params()
        here = Placement(
            {nodes[node.name]: bits for node, bits in plan.placement.bits.items()},
            {nodes[node.name]: nodes[source.name] for node, source in plan.placement.shared.items()},
        )
        emit_activations(traced, here, params)
        return traced.finish()

    def _copy_loose_tensors(self, traced: TracedModel) -> None:
        """Take over what is no part of a layer or a BatchNorm: parameters of other functions, and constants."""
        for node in self.graph.graph.nodes:
            if node.op == "get_attr":
                owner, _, name = str(node.target).rpartition(".")
                source = getattr(self.graph.get_submodule(owner), name)
                target = getattr(traced.module.get_submodule(owner), name)
                with torch.no_grad():
                    target.copy_(source)

    def _export(self, traced: TracedModel, layer: Layer) -> None:
        trained = self.layer(layer.name)
        gain, bias = trained.affine()
        codes = trained.weight.codes()
        if codes is not None:
            codes = codes if gain is None else codes.times(gain)
            emit_weight(traced, layer, replace(codes, codes=codes.codes.contiguous()))
        else:
            weight = trained.weight.effective().detach().cpu().clone(memory_format=torch.contiguous_format)
            shape = (-1, *[1] * (weight.ndim - 1))
            traced.replace_weight(layer, weight if gain is None else weight * gain.reshape(shape))
        if bias is not None:
            traced.replace_bias(layer, bias.clone())
