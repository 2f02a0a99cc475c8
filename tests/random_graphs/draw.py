"""Hypothesis draws networks of 5 to 12 nodes, their quantization settings, and what is left open when they are converted."""

from __future__ import annotations

import re
from typing import Any

import torch
from hypothesis import strategies as st
from op_rows import KINDS
from op_rows.drawing import one_of
from op_rows.family import Draw, Kind

from random_graphs.net import Net, Shape, Step, make_module

_MOST_ELEMENTS = 20_000
_BATCH = 3
_LAYER = re.compile(r"nn\.(Conv2d|Conv1d|ConvTranspose2d|Linear)\(")

# Their results share no memory with anything: the engine refuses to change a tensor that is also read through a view.
_FRESH = re.compile(r"nn\.(Conv|Linear|BatchNorm)")


@st.composite
def nets(draw: Draw, least: int = 5, most: int = 12) -> Net:
    inputs = tuple(_input_shape(draw) for _ in range(one_of(draw, 1, 1, 1, 2)))
    shapes: list[Shape] = list(inputs)
    steps: list[Step] = []
    for _ in range(draw(st.integers(least, most))):
        _add_step(draw, steps, shapes, len(inputs))
    read = {i for step in steps for i in step.inputs}
    leaves = [i for i in range(len(inputs), len(shapes)) if i not in read]
    inner = [i for i in range(len(inputs), len(shapes)) if i in read]
    outputs = [*leaves, *([one_of(draw, *inner)] if inner and draw(st.integers(0, 3)) == 3 else [])]
    layers = [f"s{i}" for i, step in enumerate(steps) if _is_quantized(step)]
    return Net(
        inputs,
        tuple(steps),
        tuple(outputs),
        draw(st.integers(0, 2**16)),
        _settings(draw, layers),
        {name: "float" for name in layers if draw(st.integers(0, 9)) == 9},
        draw(st.integers(0, 7)) < 7,
        draw(st.tuples(st.integers(0, 5), st.integers(0, 5))),
    )


def _input_shape(draw: Draw) -> Shape:
    if draw(st.integers(0, 4)) == 4:
        return (_BATCH, draw(st.integers(1, 40)))
    return (_BATCH, one_of(draw, 3, 1, 2, 4, 8, 16, 17), draw(st.integers(3, 14)), draw(st.integers(3, 14)))


def _add_step(draw: Draw, steps: list[Step], shapes: list[Shape], inputs: int) -> None:
    """Append a node; where the kind drawn has nothing for the operands drawn, a ReLU, which has something for all."""
    # Mostly the last value, so that networks are deep; else any, so that they branch.
    x = len(shapes) - 1 if draw(st.integers(0, 2)) < 2 else draw(st.integers(0, len(shapes) - 1))
    for _ in range(4):
        kind = one_of(draw, *KINDS)
        step = _step_of(draw, kind, x, steps, shapes, inputs)
        shape = None if step is None else _shape_of(step, steps, shapes)
        if step is not None and shape is not None:
            break
    else:
        step, shape = Step("nn.ReLU()", (x,)), shapes[x]
    steps.append(step)
    shapes.append(shape)


def _step_of(draw: Draw, kind: Kind, x: int, steps: list[Step], shapes: list[Shape], inputs: int) -> Step | None:
    if len(shapes[x]) not in kind.ranks:
        return None
    if kind.second is None:
        same = [
            i for i, s in enumerate(steps) if _LAYER.match(s.module) and len(s.inputs) == 1 and shapes[s.inputs[0]][1:] == shapes[x][1:]
        ]
        if same and kind.name in ("conv", "linear") and draw(st.booleans()):
            return Step(f"shared({one_of(draw, *same)})", (x,))
        module = kind.module(draw, shapes[x])
        if module == "nn.ReLU(inplace=True)" and x >= inputs and not _FRESH.match(steps[x - inputs].module):
            module = "nn.ReLU()"
        return None if module is None else Step(module, (x,))
    partners = [i for i, shape in enumerate(shapes) if i != x and kind.second(shapes[x], shape)]
    module = kind.module(draw, shapes[x])
    if not partners or module is None:
        return None
    pair = (x, one_of(draw, *partners))
    return Step(module, pair if draw(st.booleans()) else pair[::-1])


def _shape_of(step: Step, steps: list[Step], shapes: list[Shape]) -> Shape | None:
    """None where torch refuses the operands, and for values of no or of too many elements."""
    expression = steps[int(step.module[7:-1])].module if step.module.startswith("shared(") else step.module
    try:
        with torch.no_grad(), torch.device("meta"):
            y = make_module(expression).eval()(*(torch.empty(shapes[i]) for i in step.inputs))
    except (RuntimeError, ValueError):
        return None
    return tuple(y.shape) if 0 < y.numel() <= _MOST_ELEMENTS else None


def _is_quantized(step: Step) -> bool:
    """Whether PTQ takes it for a layer. Grouped transposed convolutions have no scale per output channel."""
    return bool(_LAYER.match(step.module)) and (not step.module.startswith("nn.ConvT") or make_module(step.module).groups == 1)


def _settings(draw: Draw, layers: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {"observer": one_of(draw, "minmax", "minmax", "mse")}
    kind = draw(st.integers(0, 3))
    if kind == 1:
        settings.update(weight_bits=_weight_bits(draw), act_bits=draw(st.integers(2, 8)), first_last=one_of(draw, "8/8", None))
    elif kind == 2:
        settings["bits"] = {name: f"{one_of(draw, 't', *range(2, 9))}/{draw(st.integers(2, 8))}" for name in layers}
    return settings


def _weight_bits(draw: Draw) -> Any:
    return one_of(draw, "ternary", *range(2, 9))
