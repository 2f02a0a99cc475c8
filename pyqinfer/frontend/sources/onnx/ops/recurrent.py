"""Recurrent layers: torch's, whose gates stand in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.values import Const
from pyqinfer.frontend.values import NotSupportedHere

# Places of torch's gates among those of ONNX: input, output, forget, cell; update, reset, hidden.
_LSTM_GATES, _GRU_GATES = (0, 2, 3, 1), (1, 0, 2)
_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
# Run over [steps, batch, inputs] from the initial state [1, batch, hidden]: all outputs, and the last state.
_Run = Callable[[Tensor, Tensor, list[Tensor]], tuple[Tensor, Tensor]]


def _lstm(c: Call) -> tuple[Tensor, ...]:
    if c.has(7):
        raise NotSupportedHere("peephole weights")
    if c.attribute("input_forget", 0):
        raise NotSupportedHere("gates of input and forgetting that are one")
    x, cells = _steps_first(c), list[Tensor]()
    initial = _initial(c, 6, x)

    def run(x: Tensor, hidden: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        y, last, cell = torch.lstm(x, (hidden, initial[len(cells)]), weights, True, 1, 0.0, False, False, False)
        cells.append(cell)
        return y, last

    y, hidden = _directions(c, x, _LSTM_GATES, run)
    return y, hidden, _states(c, cells)


def _gru(c: Call) -> tuple[Tensor, ...]:
    return _directions(c, _steps_first(c), _GRU_GATES, _run_gru if c.attribute("linear_before_reset", 0) else _run_gru_of_reset_state)


def _run_gru(x: Tensor, hidden: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.gru(x, hidden, weights, True, 1, 0.0, False, False, False)


def _run_gru_of_reset_state(x: Tensor, hidden: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The form of the paper, which torch does not have: the reset gate acts in front of the product."""
    of_input, of_state, bias, state_bias = weights
    state, size = hidden[0], of_state.shape[1]
    inputs, outputs = torch.nn.functional.linear(x, of_input, bias + state_bias), []
    for step in inputs.unbind(0):
        gates = torch.sigmoid(step[:, : 2 * size] + torch.nn.functional.linear(state, of_state[: 2 * size]))
        reset, update = gates[:, :size], gates[:, size:]
        new = torch.tanh(step[:, 2 * size :] + torch.nn.functional.linear(reset * state, of_state[2 * size :]))
        state = new + update * (state - new)
        outputs.append(state)
    return torch.stack(outputs), state.unsqueeze(0)


def _rnn(c: Call) -> tuple[Tensor, ...]:
    functions = {str(name).lower() for name in c.attribute("activations") or ["tanh"]}
    run = torch.rnn_relu if functions == {"relu"} else torch.rnn_tanh

    def over(x: Tensor, hidden: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        y, last = run(x, hidden, weights, True, 1, 0.0, False, False, False)
        return y, last

    return _directions(c, _steps_first(c), (0,), over, relu=functions == {"relu"})


def _directions(c: Call, x: Tensor, gates: Sequence[int], run: _Run, relu: bool = False) -> tuple[Tensor, Tensor]:
    """Outputs and last states of one or two directions, in the node's layout."""
    _check_form(c, x, relu)
    direction = str(c.attribute("direction", "forward"))
    weight, recurrent = c.tensor(1), c.tensor(2)
    hidden = _initial(c, 5, x)
    outputs, states = [], []
    for i in range(weight.shape[0]):
        backwards = direction == "reverse" or i == 1
        parameters = [_by_gate(weight[i], gates), _by_gate(recurrent[i], gates), *_biases(c, i, gates, recurrent)]
        y, last = run(x.flip(0) if backwards else x, hidden[i], parameters)
        outputs.append(y.flip(0) if backwards else y)
        states.append(last)
    y = torch.stack(outputs, 1)
    return y.permute(2, 0, 1, 3) if c.attribute("layout", 0) else y, _states(c, states)


def _check_form(c: Call, x: Tensor, relu: bool) -> None:
    steps = x.shape[0]
    if not isinstance(steps, int):
        raise NotSupportedHere("an open number of steps: fix the length")
    if c.has(4):
        lengths = c.value(4)
        if not isinstance(lengths, Const) or (lengths.array != steps).any():
            raise NotSupportedHere("sequences of several lengths")
    if c.attribute("clip") is not None:
        raise NotSupportedHere("gates that are clipped")
    names = [str(name).lower() for name in c.attribute("activations") or []]
    wanted = ("relu",) if relu else _ACTIVATIONS[c.operation.op]
    if any(name != wanted[i % len(wanted)] for i, name in enumerate(names)):
        raise NotSupportedHere(f"activations {', '.join(names)}")
    c.attribute("hidden_size"), c.attribute("activation_alpha"), c.attribute("activation_beta")


def _steps_first(c: Call) -> Tensor:
    """The input as [steps, batch, inputs]."""
    x = c.tensor(0)
    return x.transpose(0, 1) if c.attribute("layout", 0) else x


def _initial(c: Call, at: int, x: Tensor) -> list[Tensor]:
    """The state [1, batch, hidden] of each direction in front of the first step."""
    count, size = c.tensor(2).shape[0], c.tensor(2).shape[2]
    if not c.has(at):
        # Zeros made of the input, because the batch may be open.
        zeros = (x[0, :, :1] * 0.0).expand(-1, size).unsqueeze(0)
        return [zeros] * count
    states = c.tensor(at)
    states = states.transpose(0, 1) if c.attribute("layout", 0) else states
    return [states[i : i + 1] for i in range(count)]


def _states(c: Call, states: Sequence[Tensor]) -> Tensor:
    together = torch.cat(list(states), 0)
    return together.transpose(0, 1) if c.attribute("layout", 0) else together


def _biases(c: Call, direction: int, gates: Sequence[int], recurrent: Tensor) -> list[Tensor]:
    """The input's bias and the state's."""
    size = recurrent.shape[1]
    if not c.has(3):
        return [torch.zeros(size), torch.zeros(size)]
    both = c.tensor(3)[direction]
    return [_by_gate(both[:size], gates), _by_gate(both[size:], gates)]


def _by_gate(parameter: Tensor, gates: Sequence[int]) -> Tensor:
    """A parameter, whose first axis is that of all gates, with these in torch's order."""
    parts: Any = parameter.chunk(len(gates), 0)
    return torch.cat([parts[gate] for gate in gates], 0)


ROWS: dict[str, Handler] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
