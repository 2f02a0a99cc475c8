"""A policy that draws bits layer by layer: an LSTM that is fed its own choices, trained by policy gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

_WIDTH = 64
_SPREAD = 0.1
_TINY = 1e-9


@dataclass(frozen=True)
class Draw:
    """Choices for all layers: index of the option of each, the sum of their log-probabilities, and the summed entropy."""

    choices: tuple[int, ...]
    log_probability: Tensor
    entropy: Tensor


class BitPolicy(nn.Module):
    """Distribution over options for each step, given the choices before it.

    Args:
        steps: how many choices a draw has.
        options: how many options each has.
    """

    def __init__(self, steps: int, options: int) -> None:
        super().__init__()
        self.steps = steps
        self.embedding = nn.Embedding(options, _WIDTH)
        self.cell = nn.LSTMCell(_WIDTH, _WIDTH)
        self.head = nn.Linear(_WIDTH, options)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_SPREAD, _SPREAD)

    def draw(self) -> Draw:
        """Draw from torch's global generator."""
        x = self.embedding.weight.new_zeros(1, _WIDTH)
        state: tuple[Tensor, Tensor] | None = None
        choices: list[int] = []
        log_probability, entropy = x.new_zeros(()), x.new_zeros(())
        for _ in range(self.steps):
            state = self.cell(x, state)
            log_probabilities = torch.log_softmax(self.head(state[0]), 1)
            chosen = torch.multinomial(log_probabilities.detach().exp(), 1)
            log_probability = log_probability + log_probabilities[0, chosen[0, 0]]
            entropy = entropy - (log_probabilities.exp() * log_probabilities).sum()
            choices.append(int(chosen))
            x = self.embedding(chosen[0])
        return Draw(tuple(choices), log_probability, entropy)


class PolicyTrainer:
    """REINFORCE; costs are numbers, to which no graph hangs.

    A cost counts by how far it lies from the moving average of costs, in their moving standard deviation. Without that division a policy
    settled, on a toy of six layers, on whatever it drew in its first hundred steps, at any learning rate.

    Args:
        policy: what learns.
        lr: of Adam. entropy: what a unit of entropy is worth, in such deviations. memory: share of the averages that stays at each step.
    """

    def __init__(self, policy: BitPolicy, lr: float = 4e-3, entropy: float = 0.2, memory: float = 0.95) -> None:
        self.policy, self.entropy, self.memory = policy, entropy, memory
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=5e-4)
        self.baseline: float | None = None
        self.variance = 0.0

    def learn(self, draw: Draw, cost: float) -> None:
        """Make a draw of a cost above the baseline less likely, of one below it more likely."""
        before = cost if self.baseline is None else self.baseline
        self.baseline = self.memory * before + (1 - self.memory) * cost
        distance = cost - before
        self.variance = self.memory * (self.variance or distance**2) + (1 - self.memory) * distance**2
        advantage = distance / (sqrt(self.variance) + _TINY)
        loss = draw.log_probability * advantage - self.entropy * draw.entropy
        self.optimizer.zero_grad()
        with torch.enable_grad():
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def uniform_draw(steps: int, options: int) -> Sequence[int]:
    """Choices of equal probability, from torch's global generator."""
    return [int(i) for i in torch.randint(options, (steps,))]
