"""A random network as plain data: its ``repr`` is an expression that builds it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from random_graphs import modules

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One module and what it reads. ``module``: an expression over torch, nn and ``random_graphs.modules``, or ``"shared(3)"``: step 3's.

    ``inputs``: values by number, the network's inputs first and then one per step.
    """

    module: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """``inputs``: shapes, of one batch. ``ptq``: arguments of pq.PTQ; ``keep``: as in pq.quantize.

    ``larger``: how much the second run's height and width exceed the shapes above, where the network allows another size.
    """

    inputs: tuple[Shape, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    seed: int = 0
    ptq: dict[str, Any] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    dynamic_batch: bool = True
    larger: tuple[int, int] = (0, 0)

    def build(self) -> nn.Module:
        """The network in evaluation mode, with weights and BatchNorm statistics drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return _Assembled(self).eval()

    def examples(self, batch: int | None = None, larger: tuple[int, int] = (0, 0)) -> tuple[Tensor, ...]:
        """Inputs of the shapes above; with another batch, and images of another size, if given."""
        generator = torch.Generator().manual_seed(self.seed)
        return tuple(torch.randn(self._shape(shape, batch, larger), generator=generator) for shape in self.inputs)

    @staticmethod
    def _shape(shape: Shape, batch: int | None, larger: tuple[int, int]) -> Shape:
        n = shape[0] if batch is None else batch
        return (n, shape[1], shape[2] + larger[0], shape[3] + larger[1]) if len(shape) == 4 else (n, *shape[1:])


class _Assembled(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self._net = net
        self._numbers: list[int] = []
        for i, step in enumerate(net.steps):
            shared = step.module.startswith("shared(")
            self._numbers.append(int(step.module[7:-1]) if shared else i)
            if not shared:
                self.add_module(f"s{i}", make_module(step.module))

    def forward(self, *inputs: Tensor) -> Any:
        values = list(inputs)
        for number, step in zip(self._numbers, self._net.steps, strict=True):
            values.append(self.get_submodule(f"s{number}")(*(values[i] for i in step.inputs)))
        outputs = tuple(values[i] for i in self._net.outputs)
        return outputs if len(outputs) > 1 else outputs[0]


def make_module(expression: str) -> nn.Module:
    """The module that an expression of a :class:`Step` stands for; normalizations get statistics and parameters."""
    module: nn.Module = eval(expression, {"torch": torch, "nn": nn, **vars(modules)})
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            nn.init.uniform_(norm.weight, -1.0, 1.5)
            nn.init.normal_(norm.bias)
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean, 0.0, 0.5)
            nn.init.uniform_(norm.running_var, 0.3, 2.0)
    return module
