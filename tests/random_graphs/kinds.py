"""The kinds of nodes that random networks are made of: one row each.

A row draws the module's expression for the shapes of its operands, or gives None where it has none for them. Shapes of results are found by
running the module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st

from random_graphs.net import Shape


class Draw(Protocol):
    def __call__(self, strategy: st.SearchStrategy[Any], /) -> Any: ...


@dataclass(frozen=True)
class Kind:
    """``ranks``: of the first operand. ``second``: which shapes the second operand may have, for kinds that take two."""

    name: str
    ranks: tuple[int, ...]
    module: Callable[[Draw, Shape], str | None]
    second: Callable[[Shape, Shape], bool] | None = None


def one_of(draw: Draw, *choices: Any) -> Any:
    return draw(st.sampled_from(choices))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _fits(size: Sequence[int], kernel: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> bool:
    return all(n + 2 * p > d * (k - 1) for n, k, p, d in zip(size, kernel, padding, dilation, strict=True))


def _pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    return draw(st.tuples(st.integers(low, high), st.integers(low, high)))


def _conv(draw: Draw, x: Shape) -> str | None:
    groups = one_of(draw, 1, 1, *_divisors(x[1]))
    outputs = groups * draw(st.integers(1, max(1, 12 // groups)))
    kernel, dilation = _pair(draw, 1, 4), _pair(draw, 1, 2)
    padding, stride = (one_of(draw, 0, 1, kernel[0] // 2), one_of(draw, 0, 1, kernel[1] // 2)), _pair(draw, 1, 3)
    if not _fits(x[2:], kernel, padding, dilation):
        return None
    bias = draw(st.booleans())
    if draw(st.integers(0, 7)) == 7:
        return f"nn.Conv2d({x[1]}, {outputs}, {kernel}, padding='same', dilation={dilation}, groups={groups}, bias={bias})"
    return f"nn.Conv2d({x[1]}, {outputs}, {kernel}, {stride}, {padding}, {dilation}, {groups}, {bias})"


def _conv3x3(draw: Draw, x: Shape) -> str | None:
    return f"nn.Conv2d({x[1]}, {one_of(draw, x[1], 2 * x[1], 16)}, 3, {one_of(draw, 1, 1, 2)}, 1)"


def _depthwise(draw: Draw, x: Shape) -> str | None:
    return f"nn.Conv2d({x[1]}, {x[1]}, 3, {one_of(draw, 1, 2)}, 1, groups={x[1]}, bias={draw(st.booleans())})"


def _linear(draw: Draw, x: Shape) -> str | None:
    return f"nn.Linear({x[-1]}, {draw(st.integers(1, 20))}, {draw(st.booleans())})" if x[-1] <= 4096 else None


def _batch_norm(draw: Draw, x: Shape) -> str | None:
    return f"nn.BatchNorm{2 if len(x) == 4 else 1}d({x[1]})"


def _activation(draw: Draw, x: Shape) -> str | None:
    return one_of(
        draw,
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
        "nn.ReLU6()",
        "nn.Hardtanh(-0.5, 0.75)",
        "Call(clamp, min=-0.25)",
        "Call(clamp, max=0.5)",
        "nn.LeakyReLU(0.1)",
        "nn.Hardswish()",
        "nn.Hardsigmoid()",
        "nn.Sigmoid()",
        "nn.SiLU()",
        "nn.GELU()",
        "nn.GELU('tanh')",
        "nn.Tanh()",
        "nn.ELU(0.7)",
        "nn.PReLU()",
        "nn.SELU()",
        "nn.CELU()",
        f"nn.PReLU({x[1] if len(x) != 3 else 1})",
    )


def _max_pool(draw: Draw, x: Shape) -> str | None:
    kernel = _pair(draw, 1, 3)
    padding = (kernel[0] // 2 * one_of(draw, 0, 1), kernel[1] // 2 * one_of(draw, 0, 1))
    # The engine refuses windows that hold nothing but padding, which only dilated ones can.
    dilation = (1, 1) if any(padding) else _pair(draw, 1, 2)
    if not _fits(x[2:], kernel, padding, dilation):
        return None
    return f"nn.MaxPool2d({kernel}, {_pair(draw, 1, 3)}, {padding}, {dilation}, ceil_mode={draw(st.booleans())})"


def _avg_pool(draw: Draw, x: Shape) -> str | None:
    kernel = _pair(draw, 1, 3)
    padding = (kernel[0] // 2 * one_of(draw, 0, 1), kernel[1] // 2 * one_of(draw, 0, 1))
    if not _fits(x[2:], kernel, padding, (1, 1)):
        return None
    return f"nn.AvgPool2d({kernel}, {_pair(draw, 1, 3)}, {padding}, {draw(st.booleans())}, {draw(st.booleans())})"


def _adaptive_pool(draw: Draw, x: Shape) -> str | None:
    return f"nn.AdaptiveAvgPool2d({_pair(draw, 1, 4)})"


def _mean(draw: Draw, x: Shape) -> str | None:
    return f"Call(mean, (2, 3), keepdim={draw(st.booleans())})"


def _flatten(draw: Draw, x: Shape) -> str | None:
    return one_of(draw, "nn.Flatten()", "Method('reshape', -1)")


def _unflatten(draw: Draw, x: Shape) -> str | None:
    height = one_of(draw, *_divisors(x[1]))
    width = one_of(draw, *_divisors(x[1] // height))
    return f"Method('reshape', {x[1] // height // width}, {height}, {width})"


def _scalar_arithmetic(draw: Draw, x: Shape) -> str | None:
    function, number = one_of(draw, "add", "sub", "mul", "div"), one_of(draw, 0.5, -1.25, 3.0)
    return one_of(
        draw,
        f"Call({function}, {number})",
        f"Call({function}, {number})",
        f"Reversed({'sub' if function == 'div' else function}, {number})",
    )


def _per_channel(draw: Draw, x: Shape) -> str | None:
    return f"PerChannel({one_of(draw, 'add', 'sub', 'mul', 'div')}, {x[1]}, {len(x)})"


def _arithmetic(draw: Draw, x: Shape) -> str | None:
    return f"Call({one_of(draw, 'add', 'sub', 'mul')})"


def _fake_quantize(draw: Draw, x: Shape) -> str | None:
    low, high = one_of(draw, (0, 255), (-128, 127), (0, 15))
    return f"FakeQuantize({one_of(draw, 0.01, 0.037, 0.1)}, {draw(st.integers(low, high))}, {low}, {high})"


def _conv_transpose(draw: Draw, x: Shape) -> str | None:
    groups = one_of(draw, 1, 1, *_divisors(x[1]))
    kernel, stride, dilation = _pair(draw, 1, 4), _pair(draw, 1, 3), _pair(draw, 1, 2)
    padding = (draw(st.integers(0, kernel[0] - 1)), draw(st.integers(0, kernel[1] - 1)))
    more = (draw(st.integers(0, stride[0] - 1)), draw(st.integers(0, stride[1] - 1)))
    outputs, bias = groups * draw(st.integers(1, max(1, 12 // groups))), draw(st.booleans())
    return f"nn.ConvTranspose2d({x[1]}, {outputs}, {kernel}, {stride}, {padding}, {more}, {groups}, {bias}, {dilation})"


def _conv1d(draw: Draw, x: Shape) -> str | None:
    kernel = draw(st.integers(1, min(3, x[2])))
    return f"nn.Conv1d({x[1]}, {draw(st.integers(1, 12))}, {kernel}, {draw(st.integers(1, 2))}, {kernel // 2}, bias={draw(st.booleans())})"


def _upsample(draw: Draw, x: Shape) -> str | None:
    size = one_of(draw, "scale_factor=2", "scale_factor=2", "scale_factor=(3, 2)", f"size=({x[2] + 3}, {2 * x[3] + 1})")
    mode = one_of(draw, "mode='nearest'", "mode='bilinear'", "mode='bilinear', align_corners=True")
    return f"nn.Upsample({size}, {mode})"


def _pad(draw: Draw, x: Shape) -> str | None:
    top, left = draw(st.integers(0, min(2, x[2] - 1))), draw(st.integers(0, min(2, x[3] - 1)))
    sides = (left, draw(st.integers(0, left)), top, draw(st.integers(0, top)))
    if not any(sides):
        return None  # the input itself, which the engine refuses as an output
    return one_of(
        draw, f"nn.ZeroPad2d({sides})", f"nn.ReflectionPad2d({sides})", f"nn.ReplicationPad2d({sides})", f"nn.ConstantPad2d({sides}, 0.5)"
    )


def _shuffle(draw: Draw, x: Shape) -> str | None:
    names = [f"nn.ChannelShuffle({groups})" for groups in _divisors(x[1])[1:-1]]
    if x[1] % 4 == 0:
        names.append("nn.PixelShuffle(2)")
    if x[2] % 2 == 0 and x[3] % 2 == 0:
        names.append("nn.PixelUnshuffle(2)")
    return one_of(draw, *names) if names else None


def _slice(draw: Draw, x: Shape) -> str | None:
    axis = draw(st.integers(1, len(x) - 1))
    if x[axis] == 1:
        return None  # all of it would be the operand itself, which is no output
    begin = draw(st.integers(1, x[axis] - 1))
    return f"Slice({axis}, {begin}, {draw(st.integers(begin + 1, x[axis]))}, {one_of(draw, 1, 1, 2)})"


def _select(draw: Draw, x: Shape) -> str | None:
    axis = draw(st.integers(1, len(x) - 1))
    return f"Select({axis}, {one_of(draw, 0, x[axis] - 1, -1)})"


def _chunk(draw: Draw, x: Shape) -> str | None:
    several = [d for d in _divisors(x[1]) if 1 < d <= 4]
    if not several:
        return None
    pieces = one_of(draw, *several)
    return f"Chunk({pieces}, {draw(st.integers(-1, pieces - 1))})"


def _permute(draw: Draw, x: Shape) -> str | None:
    order = draw(st.permutations(range(1, len(x))))
    return None if order == sorted(order) else f"Call(permute, {(0, *order)})"


def _unsqueeze(draw: Draw, x: Shape) -> str | None:
    return f"Call(unsqueeze, {draw(st.integers(1, len(x)))})"


def _softmax(draw: Draw, x: Shape) -> str | None:
    return f"nn.{one_of(draw, 'Softmax', 'Softmax', 'LogSoftmax')}({draw(st.integers(1, len(x) - 1))})"


def _layer_norm(draw: Draw, x: Shape) -> str | None:
    axes = list(x[-one_of(draw, 1, 1, len(x) - 1) :])
    return f"nn.LayerNorm({axes})" if math.prod(axes) > 1 else None  # one element: a constant, and noise behind the next normalization


def _group_norm(draw: Draw, x: Shape) -> str | None:
    return f"nn.GroupNorm({one_of(draw, *_divisors(x[1]))}, {x[1]})"


def _reduce(draw: Draw, x: Shape) -> str | None:
    axes = sorted(draw(st.sets(st.integers(1, len(x) - 1), min_size=1)))
    return f"Call({one_of(draw, 'mean', 'total', 'amax')}, {tuple(axes)}, keepdim={draw(st.booleans())})"


def _cat(draw: Draw, x: Shape) -> str | None:
    return "Call(cat, 1)"


def _product(draw: Draw, x: Shape) -> str | None:
    return one_of(draw, "Call(times_transposed)", "Call(times_transposed)", "Call(attention)")


def _cats(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and a[0] == b[0] and a[2:] == b[2:]


def _multiply(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and a[:-2] == b[:-2] and a[-1] == b[-1]


def _same(a: Shape, b: Shape) -> bool:
    return a == b


def _broadcasts(a: Shape, b: Shape) -> bool:
    return a != b and len(a) == len(b) and a[0] == b[0] and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))


KINDS: list[Kind] = [
    Kind("conv", (4,), _conv),
    Kind("conv3x3", (4,), _conv3x3),
    Kind("depthwise", (4,), _depthwise),
    Kind("linear", (2, 3, 4), _linear),
    Kind("batch_norm", (2, 4), _batch_norm),
    Kind("activation", (2, 3, 4), _activation),
    Kind("max_pool", (4,), _max_pool),
    Kind("avg_pool", (4,), _avg_pool),
    Kind("adaptive_pool", (4,), _adaptive_pool),
    Kind("mean", (4,), _mean),
    Kind("flatten", (3, 4), _flatten),
    Kind("unflatten", (2,), _unflatten),
    Kind("scalar", (2, 4), _scalar_arithmetic),
    Kind("per_channel", (2, 4), _per_channel),
    Kind("fake_quantize", (2, 4), _fake_quantize),
    Kind("conv_transpose", (4,), _conv_transpose),
    Kind("conv1d", (3,), _conv1d),
    Kind("upsample", (4,), _upsample),
    Kind("pad", (4,), _pad),
    Kind("shuffle", (4,), _shuffle),
    Kind("slice", (2, 3, 4), _slice),
    Kind("select", (3, 4), _select),
    Kind("chunk", (2, 3, 4), _chunk),
    Kind("permute", (3, 4), _permute),
    Kind("unsqueeze", (2, 3), _unsqueeze),
    Kind("tokens", (4,), lambda draw, x: "Call(tokens)"),
    Kind("softmax", (2, 3, 4), _softmax),
    Kind("layer_norm", (2, 3, 4), _layer_norm),
    Kind("group_norm", (3, 4), _group_norm),
    Kind("reduce", (3, 4), _reduce),
    Kind("concat", (2, 3, 4), _cat, _cats),
    Kind("product", (3, 4), _product, _multiply),
    Kind("residual", (2, 3, 4), lambda draw, x: "Call(add)", _same),
    Kind("arithmetic", (2, 3, 4), _arithmetic, _same),
    Kind("broadcast", (2, 3, 4), _arithmetic, _broadcasts),
]
