"""What every candidate of a race is given: one torch module, one input, one calibration set, made once and kept on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.cache import artifact, digest, installed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.peers.networks import Network

_ZOO = Path(__file__).parents[2] / "pyqinfer" / "zoo"
_SAMPLES = 8


@dataclass(frozen=True)
class Case:
    """A network with random weights and realistic BatchNorm statistics, or with its maker's weights, batch 1.

    Args:
        model: a name as :func:`benchmarks.peers.networks.build` takes it, such as ``resnet18`` or ``torchvision:efficientnet_b0``.
        size: height and width of the input, pixels.
        seed: decides weights, input and calibration data.
        root: folder that holds everything made for races.
    """

    model: str
    size: int
    seed: int
    root: Path

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.]+", "_", f"{self.model}-{self.size}-seed{self.seed}")

    @cached_property
    def folder(self) -> Path:
        """Weights and expected output; the candidates' files lie in it as well, and go when the network changes."""
        recipe = digest([Path(__file__), Path(__file__).with_name("networks.py"), *self._sources(), *sorted(_ZOO.glob("*.py"))])
        return artifact(self.root, self.name, {"torch": installed("torch"), "recipe": recipe}, self._make)

    def _sources(self) -> list[Path]:
        """The user's file that the network comes from, so that a changed one is raced anew."""
        path = Path(self.model.rpartition(":")[0])
        return [path] if path.is_file() else []

    def _make(self, folder: Path) -> None:
        import torch

        network = self._network()
        torch.save(network.module.state_dict(), folder / "weights.pt")
        np.savez(folder / "inputs.npz", *[x.numpy() for x in network.inputs])
        macs = _count_macs(network.module)
        with torch.inference_mode():
            np.savez(folder / "expected.npz", *[y.numpy() for y in _tensors(network.module(*network.inputs))])
        (folder / "macs").write_text(str(sum(macs)))

    def _network(self) -> Network:
        from benchmarks.peers.networks import build

        return build(self.model, self.size, self.seed)

    def module(self) -> nn.Module:
        """The network in eval mode: the same weights, bit for bit, in every process."""
        import torch

        module = self._network().module
        module.load_state_dict(torch.load(self.folder / "weights.pt", weights_only=True))
        return module

    @cached_property
    def inputs(self) -> tuple[NDArray[Any], ...]:
        """What is raced: normally distributed images, or what the network's maker gave."""
        with np.load(self.folder / "inputs.npz") as kept:
            return tuple(kept[name] for name in kept.files)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every input: ``x``, or ``x0``, ``x1``, ..."""
        return ("x",) if len(self.inputs) == 1 else tuple(f"x{i}" for i in range(len(self.inputs)))

    def feed(self) -> dict[str, NDArray[Any]]:
        """The inputs by their names."""
        return dict(zip(self.names, self.inputs, strict=True))

    def tensors(self) -> tuple[Tensor, ...]:
        """:attr:`inputs` for torch."""
        import torch

        return tuple(torch.from_numpy(x.copy()) for x in self.inputs)

    def macs(self) -> int:
        """Multiply-accumulates of the network's convolutions and linear layers."""
        return int((self.folder / "macs").read_text())

    def calibration(self) -> list[tuple[NDArray[Any], ...]]:
        """Inputs like :attr:`inputs` for every quantizer, without these themselves.

        Floats are normally distributed around the mean of the raced input; integers, such as words, are those of the raced input in
        another order.
        """
        rng = np.random.default_rng([self.seed, 1])
        return [tuple(_like(x, rng) for x in self.inputs) for _ in range(_SAMPLES)]

    def cosine(self, outputs: NDArray[np.float32] | Sequence[NDArray[np.float32]]) -> float:
        """Least cosine between a candidate's outputs and torch's fp32 outputs; 0 for other shapes or values that are not finite."""
        with np.load(self.folder / "expected.npz") as kept:
            expected = [kept[name] for name in kept.files]
        given = [outputs] if isinstance(outputs, np.ndarray) else list(outputs)
        if len(given) != len(expected):
            return 0.0
        return min(_cosine(a, b) for a, b in zip(given, expected, strict=True))


def _cosine(output: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if output.shape != expected.shape or not np.isfinite(output).all():
        return 0.0
    a, b = expected.astype(np.float64).ravel(), output.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0


def _like(x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    if x.dtype.kind != "f":
        return rng.permuted(x, axis=-1)
    return (rng.standard_normal(x.shape) * x.std() + x.mean()).astype(x.dtype)


def _tensors(outputs: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return list(tree_leaves(outputs))


def _count_macs(module: nn.Module) -> list[int]:
    """A list that the module's next run fills: MACs of every convolution and linear layer."""
    from torch import nn

    macs: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        macs.append(output.numel() * layer.weight[0].numel())  # per output element, one product with each weight of its channel

    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    return macs
