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
        seed: of weights, input and calibration data.
        root: folder of everything made for races.
    """

    model: str
    size: int
    seed: int
    root: Path

    @cached_property
    def folder(self) -> Path:
        """Weights and expected output; the candidates' files lie in it as well, and go when the network changes."""
        name = f"{self.model}-{self.size}-seed{self.seed}"
        return artifact(self.root, name, {"torch": installed("torch"), "zoo": digest(sorted(_ZOO.glob("*.py")))}, self._make)

    def _make(self, folder: Path) -> None:
        import torch

        from pyqinfer import zoo

        module = zoo.randomize_batchnorm(getattr(zoo, self.model)(), self.seed).eval()
        torch.save(module.state_dict(), folder / "weights.pt")
        with torch.inference_mode():
            np.save(folder / "expected.npy", module(torch.from_numpy(self.x)).numpy())

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
