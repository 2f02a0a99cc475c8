"""LSTM and GRU layers that ``torch.ao.quantization.quantize_dynamic`` made, written out over the steps of their sequence.

As in torch's kernels, the products of all steps with the input's weights read codes of one range, the state's products codes of a range
for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer.frontend.values import NotSupportedHere

# A linear layer of these quantized weights and this bias, whose input is quantized when it runs.
DynamicLinear = Callable[[Tensor, Tensor], nn.Module]


class DynamicRecurrent(nn.Module):
    """Takes a dynamically quantized layer's place; ``linear`` makes its linear layers."""

    def __init__(self, module: Any, linear: DynamicLinear) -> None:
        super().__init__()
        self.kind = type(module).__name__
        if self.kind not in ("LSTM", "GRU") or module.dtype != torch.qint8:
            raise NotSupportedHere(f"a dynamically quantized {self.kind} of {module.dtype}")
        self.layers, self.width, self.batch_first = module.num_layers, module.hidden_size, module.batch_first
        self.directions = 2 if module.bidirectional else 1
        weights, biases = module.get_weight(), module.get_bias()
        names = [f"l{layer}{'_reverse' if direction else ''}" for layer in range(self.layers) for direction in range(self.directions)]
        self.of_input, self.of_state = (
            nn.ModuleList(linear(weights[f"weight_{of}_{name}"], biases[f"bias_{of}_{name}"]) for name in names) for of in ("ih", "hh")
        )

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x = x.transpose(0, 1) if self.batch_first else x
        starts: list[Tensor] | None = None if state is None else list(state) if self.kind == "LSTM" else [state]
        ends: list[list[Tensor]] = [[], []]
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                at = layer * self.directions + direction
                zero = x.new_zeros(1, x.shape[1], self.width)
                states = [zero, zero] if starts is None else [s[at : at + 1] for s in starts]
                rows, last = self._steps(self.of_input[at](x), states, self.of_state[at], reverse=direction == 1)
                outputs.append(rows)
                for kept, end in zip(ends, last, strict=False):
                    kept.append(end)
            x = torch.cat(outputs, 2)
        y = x.transpose(0, 1) if self.batch_first else x
        h = torch.cat(ends[0], 0)
        return y, (h, torch.cat(ends[1], 0)) if self.kind == "LSTM" else h

    def _steps(self, inputs: Tensor, states: list[Tensor], linear: nn.Module, reverse: bool) -> tuple[Tensor, list[Tensor]]:
        rows = []
        places = range(inputs.shape[0])
        step = _lstm if self.kind == "LSTM" else _gru
        for i in reversed(places) if reverse else places:
            states = step(inputs[i : i + 1], linear(states[0]), states)
            rows.append(states[0])
        return torch.cat(rows[::-1] if reverse else rows, 0), states


class DynamicCell(nn.Module):
    """Takes the place of one step of a recurrent layer that was dynamically quantized; ``linear`` makes its linear layers."""

    def __init__(self, module: Any, linear: DynamicLinear) -> None:
        super().__init__()
        self.kind = type(module).__name__
        weights, biases = module.get_weight(), module.get_bias()
        if weights["weight_ih"].dtype != torch.qint8:
            raise NotSupportedHere(f"a dynamically quantized {self.kind} of {weights['weight_ih'].dtype}")
        self.width, self.function = module.hidden_size, getattr(torch, getattr(module, "nonlinearity", "tanh"))
        self.of_input, self.of_state = (linear(weights[f"weight_{of}"], biases[f"bias_{of}"]) for of in ("ih", "hh"))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        zero = x.new_zeros(x.shape[0], self.width)
        states = list(state) if isinstance(state, (tuple, list)) else [zero, zero] if state is None else [state]
        inputs, own = self.of_input(x), self.of_state(states[0])
        if self.kind == "RNNCell":
            return self.function(inputs + own)
        step = _lstm if self.kind == "LSTMCell" else _gru
        ends = [end.squeeze(0) for end in step(inputs.unsqueeze(0), own.unsqueeze(0), [s.unsqueeze(0) for s in states])]
        return tuple(ends) if self.kind == "LSTMCell" else ends[0]


def _lstm(x: Tensor, own: Tensor, states: list[Tensor]) -> list[Tensor]:
    enter, forget, new, leave = (own + x).chunk(4, 2)
    c = forget.sigmoid() * states[1] + enter.sigmoid() * new.tanh()
    return [leave.sigmoid() * c.tanh(), c]


def _gru(x: Tensor, own: Tensor, states: list[Tensor]) -> list[Tensor]:
    reset_x, update_x, new_x = x.chunk(3, 2)
    reset, update, new = own.chunk(3, 2)
    new = (new_x + new * (reset + reset_x).sigmoid()).tanh()
    return [(states[0] - new) * (update + update_x).sigmoid() + new]
