"""What every candidate of a race is given: one torch module, one input, one calibration set, made once and kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.cache import artifact, digest, installed

if TYPE_CHECKING:
    from torch import Tensor, nn

_ZOO = Path(__file__).parents[2] / "pyqinfer" / "zoo"
_SAMPLES = 8


@dataclass(frozen=True)
class Case:
    """A network of ``pyqinfer.zoo`` with random weights and realistic BatchNorm statistics, batch 1.

    Args:
        model: a function of ``pyqinfer.zoo``, such as ``resnet18``.
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
        return f"{self.model}-{self.size}-seed{self.seed}"

    @cached_property
    def folder(self) -> Path:
        """Weights and expected output; the candidates' files lie in it as well, and go when the network changes."""
        made_from = {"torch": installed("torch"), "recipe": digest([Path(__file__), *sorted(_ZOO.glob("*.py"))])}
        return artifact(self.root, self.name, made_from, self._make)

    def _make(self, folder: Path) -> None:
        import torch

        from pyqinfer import zoo

        module = zoo.randomize_batchnorm(getattr(zoo, self.model)(), self.seed).eval()
        torch.save(module.state_dict(), folder / "weights.pt")
        macs = _count_macs(module)
        with torch.inference_mode():
            np.save(folder / "expected.npy", module(self.tensor()).numpy())
        (folder / "macs").write_text(str(sum(macs)))

    def module(self) -> nn.Module:
        """The network in eval mode: the same weights, bit for bit, in every process."""
        import torch

        from pyqinfer import zoo

        module: nn.Module = getattr(zoo, self.model)()
        module.load_state_dict(torch.load(self.folder / "weights.pt", weights_only=True))
        return module.eval().requires_grad_(False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (1, 3, self.size, self.size)

    @cached_property
    def x(self) -> NDArray[np.float32]:
        """The raced input, float32 NCHW, normally distributed."""
        return np.random.default_rng(self.seed).standard_normal(self.shape, np.float32)

    def tensor(self) -> Tensor:
        """:attr:`x` for torch."""
        import torch

        return torch.from_numpy(self.x.copy())

    def macs(self) -> int:
        """Multiply-accumulates of the network's convolutions and linear layers."""
        return int((self.folder / "macs").read_text())

    def calibration(self) -> list[NDArray[np.float32]]:
        """Inputs like :attr:`x` for every quantizer, without :attr:`x` itself."""
        rng = np.random.default_rng([self.seed, 1])
        return [rng.standard_normal(self.shape, np.float32) for _ in range(_SAMPLES)]

    def cosine(self, output: NDArray[np.float32]) -> float:
        """Cosine between a candidate's output and torch's fp32 output; 0 for another shape or values that are not finite."""
        expected: NDArray[np.float32] = np.load(self.folder / "expected.npy")
        if output.shape != expected.shape or not np.isfinite(output).all():
            return 0.0
        a, b = expected.astype(np.float64).ravel(), output.astype(np.float64).ravel()
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / norms if norms else 0.0


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
