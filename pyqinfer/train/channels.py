"""Structured pruning: whole channels of a network are taken out, so that its tensors become smaller and every engine becomes faster.

Which channels go together (through residual sums, BatchNorm, depthwise convolutions, concatenation, flattening) is read from the traced
graph, see :mod:`pyqinfer.train.channel_groups`. A channel's importance is the mean, over the layers that compute it, of its filter's L2
norm times the gain of the BatchNorm behind it, in units of the layer's mean (H. Li et al., "Pruning Filters for Efficient ConvNets",
arXiv 1608.08710; G. Fang et al., "DepGraph", arXiv 2301.12900).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.export import check_examples, evaluation_mode
from pyqinfer.frontend.functional import export_functional
from pyqinfer.train.channel_groups import ChannelGroups, Producer, find_groups
from pyqinfer.train.pruning import Scope, finish_pruning


def remove_channels(
    model: nn.Module,
    share: float,
    *,
    example_inputs: Any,
    scope: Scope = "layer",
    keep: Sequence[str] = (),
    multiple_of: int = 16,
) -> nn.Module:
    """Give a copy of a model with the least important channels taken out of its convolutions and linear layers.

    The copy is of the same classes, with smaller parameters; train it on to win accuracy back. Channels of the inputs and outputs stay, and
    so do those whose number the model's own code relies on: of grouped convolutions, of normalizations over groups, of what is sliced,
    split or shuffled.

    Args:
        model: float module on the CPU, masked or not; it is not changed.
        share: of the channels that goes, in [0, 1).
        example_inputs: tuple of inputs to trace with.
        scope: "layer": the share goes from each set of layers whose channels are tied; "global": from all together by importance, so that
            sets differ; each keeps at least ``multiple_of``.
        keep: names or glob patterns of layers whose output channels stay.
        multiple_of: how many channels are left is rounded to the nearest multiple, but never to 0. Kernels work on 16 channels at a time: a
            network with 12, 24 and 44 channels is smaller than one with 16, 32 and 64, and can be slower.

    Returns:
        The smaller model, in the mode (training or evaluation) of ``model``.

    Raises:
        ValueError: shares, patterns or numbers that mean nothing, or a network of which no channel can go, or none by that rounding.
        UnsupportedError: names the layer whose channels reach an op that is not understood, or the code that fixes a number of channels.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: expected a share of the channels in [0, 1), got {share}")
    if scope not in ("layer", "global"):
        raise ValueError(f"scope: expected 'layer' or 'global', got {scope!r}")
    if multiple_of < 1:
        raise ValueError(f"multiple_of: expected at least 1, got {multiple_of}")
    examples = check_examples(example_inputs)
    smaller = finish_pruning(copy.deepcopy(model))
    groups = find_groups(export_functional(smaller, examples, dynamic_batch=False))
    removed = removable_channels(smaller, groups, share, scope, keep, multiple_of)
    with evaluation_mode(smaller), torch.no_grad():
        before = smaller(*examples)
        _cut(smaller, groups, removed)
        try:
            after = smaller(*examples)
        except Exception as error:  # whatever the model's own code raises for tensors of other sizes
            raise UnsupportedError(
                f"the model's code does not run with fewer channels: {error}; name layers under keep= to leave them"
            ) from error
    if _shapes(before) != _shapes(after):
        raise UnsupportedError(f"with fewer channels the outputs have shapes {_shapes(after)} instead of {_shapes(before)}")
    return smaller


def removable_channels(
    model: nn.Module, groups: ChannelGroups, share: float, scope: Scope, keep: Sequence[str], multiple_of: int
) -> set[int]:
    """The labels (roots) of the channels that go; arguments and errors are those of :func:`remove_channels`."""
    kept = _matching(groups.producers, keep)
    fixed = set(groups.fixed)
    for producer in groups.producers:
        if producer.layer in kept:
            fixed.update(groups.root(label) for label in producer.ids)
    for producer in groups.producers:
        reasons = {groups.unknown[root] for label in producer.ids if (root := groups.root(label)) in groups.unknown and root not in fixed}
        if reasons:
            raise UnsupportedError(
                f"layer {producer.layer}: its channels reach {', '.join(sorted(reasons))}, and which of them belong together there is not "
                f"known; keep=[{producer.layer!r}] leaves the layer as it is"
            )
    tied = _tied(groups, fixed)
    if not tied:
        raise ValueError("no layer has channels that can be removed")
    importance = _importance(model, groups)
    counts = {key: len(roots) for key, roots in tied.items()}
    if scope == "layer":
        left = {key: (1 - share) * count for key, count in counts.items()}
    else:
        ranked = sorted((importance[root], root) for roots in tied.values() for root in roots)
        gone = {root for _, root in ranked[: round(share * len(ranked))]}
        left = {key: float(sum(root not in gone for root in roots)) for key, roots in tied.items()}
    removed: set[int] = set()
    for key, roots in tied.items():
        count = min(counts[key], max(multiple_of, round(left[key] / multiple_of) * multiple_of))
        removed.update(sorted(roots, key=lambda root: (importance[root], root))[: counts[key] - count])
    if share > 0 and not removed:
        raise ValueError(
            f"multiple_of: sets of {', '.join(map(str, sorted(set(counts.values()))))} channels stay whole by multiples of {multiple_of}"
        )
    return removed


def _matching(producers: Sequence[Producer], patterns: Sequence[str]) -> set[str]:
    names = [producer.layer for producer in producers]
    unused = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if unused:
        raise ValueError(f"keep: no layer is named {', '.join(map(repr, unused))}; layers are {', '.join(names)}")
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _tied(groups: ChannelGroups, fixed: set[int]) -> dict[tuple[str, ...], list[int]]:
    """Channels that may go, by the layers that compute them: those layers have one number of such channels."""
    layers: dict[int, list[str]] = defaultdict(list)
    for producer in groups.producers:
        for root in dict.fromkeys(groups.root(label) for label in producer.ids):
            layers[root].append(producer.layer)
    tied: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for root, names in layers.items():
        if root not in fixed:
            tied[tuple(names)].append(root)
    return tied


def _importance(model: nn.Module, groups: ChannelGroups) -> dict[int, float]:
    tensors = _tensors(model)
    found: dict[int, list[float]] = defaultdict(list)
    for producer in groups.producers:
        weight = tensors[producer.weight].detach().transpose(0, producer.dim)
        norms = weight.reshape(weight.shape[0], -1).double().norm(dim=1)
        if producer.gain:
            variance = tensors[producer.gain.removesuffix("weight") + "running_var"].detach().double()
            norms = norms * (tensors[producer.gain].detach().double().abs() * torch.rsqrt(variance + 1e-12))
        norms = norms / norms.mean().clamp_min(1e-30)
        for label, norm in zip(producer.ids, norms.tolist(), strict=True):
            found[groups.root(label)].append(norm)
    return {root: sum(norms) / len(norms) for root, norms in found.items()}


# ---- taking them out


def _cut(model: nn.Module, groups: ChannelGroups, removed: set[int]) -> None:
    """Make every parameter and buffer that the removed channels label smaller, and the numbers of its module with it."""
    tensors = _tensors(model)
    smaller: dict[int, Tensor] = {}
    for (name, dim), ids in groups.bound.items():
        left = [i for i, label in enumerate(ids) if groups.root(label) not in removed]
        if len(left) < len(ids):
            whole = tensors[name]
            smaller[id(whole)] = smaller.get(id(whole), whole).detach().index_select(dim, torch.tensor(left))
    for tensor in tensors.values():
        if isinstance(tensor, nn.Parameter) and id(tensor) in smaller and not isinstance(smaller[id(tensor)], nn.Parameter):
            smaller[id(tensor)] = nn.Parameter(smaller[id(tensor)], tensor.requires_grad)
    for module in model.modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        changed = [(name, smaller[id(tensor)]) for name, tensor in own if id(tensor) in smaller]
        for name, tensor in changed:
            setattr(module, name, tensor)
        if changed:
            _renumber(module)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name that they have."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def _renumber(module: nn.Module) -> None:
    """Set the numbers of channels that torch's modules keep beside their parameters."""
    weight = getattr(module, "weight", None)
    if isinstance(module, _ConvNd):
        assert isinstance(weight, Tensor)
        if isinstance(module, _ConvTransposeNd):
            module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
        elif module.groups > 1:
            module.groups = weight.shape[0] * module.groups // module.out_channels
            module.in_channels, module.out_channels = module.groups, weight.shape[0]
        else:
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm):
        tensors = (module.weight, module.running_mean)
        module.num_features = next(t.numel() for t in tensors if t is not None)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()


def _shapes(outputs: Any) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in torch.utils._pytree.tree_leaves(outputs) if isinstance(x, Tensor)]
