"""Write ops.json: cases of every op with the results of exact.py. Run it after a change of docs/numerics.md.

python tests/golden_vectors/generate.py
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from exact import evaluate
from exact_functions import FUNCTIONS
from one_op import OneOp, Quant

PATH = Path(__file__).parent / "ops.json"

INF_BITS, RELU6_BITS, MINUS_1_BITS = 0x7F800000, 0x40C00000, 0xBF800000
NONE = {"activation": "none", "lo": 0, "hi": 0}
RELU = {"activation": "relu", "lo": 0, "hi": 0}
CLAMP = {"activation": "clamp", "lo": MINUS_1_BITS, "hi": RELU6_BITS}
POINT = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, "step": 1}

U8 = Quant(float(np.float32(0.0235)), 117)
U8B = Quant(float(np.float32(0.4071)), 3)
U4 = Quant(float(np.float32(0.3)), 7, 0, 15)
NARROW = Quant(float(np.float32(0.011)), 128, 1, 255)
HALVES = Quant(0.5, 10)  # exact ties
Operand = tuple[np.ndarray, Quant | None]
BINARY = ("add", "sub", "mul", "div", "rsub", "rdiv", "maximum", "minimum")
SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, -1e-40, 2.0**-126, 3.4028235e38, -3.4028235e38, 1.0, -0.5]


class Draw:
    """Seeded arrays; Python's generator, because its stream is the same for every version."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def _array(self, shape: tuple[int, ...], dtype: Any, element: Any) -> np.ndarray:
        return np.array([element() for _ in range(math.prod(shape))], dtype).reshape(shape)

    def codes(self, *shape: int, q: Quant = U8) -> np.ndarray:
        return self._array(shape, np.uint8, lambda: self.random.randint(q.qmin, q.qmax))

    def weights(self, *shape: int, bits: int = 8) -> np.ndarray:
        return self._array(shape, np.int8, lambda: self.random.randint(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))

    def ints(self, *shape: int, limit: int) -> np.ndarray:
        return self._array(shape, np.int32, lambda: self.random.randint(-limit, limit))

    def floats(self, *shape: int, spread: int = 2) -> np.ndarray:
        """Full 24-bit significands; exponents vary by `spread`."""

        def element() -> float:
            significand = self.random.randint(2**23, 2**24 - 1) * self.random.choice((-1, 1))
            return math.ldexp(significand, -23 + self.random.randint(-spread, spread))

        return self._array(shape, np.float32, element)

    def short_floats(self, *shape: int) -> np.ndarray:
        """Few bits, so that products and sums often lie halfway between two floats."""
        return self._array(shape, np.float32, lambda: math.ldexp(self.random.randint(-4097, 4097), self.random.choice((-12, 0, 12))))

    def scales(self, n: int) -> np.ndarray:
        return np.abs(self.floats(n, spread=1)) * np.float32(2.0**-9)


def cases() -> list[OneOp]:
    draw = Draw(20)
    return [
        *_conversions(draw),
        *_integer_weighted(draw),
        *_float_weighted(draw),
        *_elementwise(draw),
        *_pools(draw),
        *_averages(draw),
        *_functions(draw),
        *_rows(draw),
        *_products(draw),
        *_reductions(draw),
        *_movement(Draw(21)),
        *_dynamic(draw),
        *_lookups(draw),
    ]


def _conversions(d: Draw) -> list[OneOp]:
    ties = np.array([*SPECIAL, *(0.25 * k for k in range(-48, 60))], np.float32)
    tiny = Quant(2.0**-100, 5)
    huge = Quant(2.0**100, 250)
    wide = d.floats(64, spread=8)
    same = {"layout": "same"}
    return [
        OneOp("quantize: ties, NaN and infinities", "quantize", [(ties, None)], HALVES, attrs=same),
        OneOp("quantize: a scale that is no power of two", "quantize", [(wide, None)], U8, attrs=same),
        OneOp("quantize: 4 bits", "quantize", [(wide, None)], U4, attrs=same),
        OneOp("quantize: qmin 1", "quantize", [(wide, None)], NARROW, attrs=same),
        OneOp("quantize: smallest scale", "quantize", [(np.float32(2.0**-99) * wide, None)], tiny, attrs=same),
        OneOp("quantize: largest scale", "quantize", [(np.float32(2.0**105) * wide, None)], huge, attrs=same),
        OneOp("quantize: NCHW to NHWC", "quantize", [(d.floats(2, 3, 2, 4), None)], U8, attrs={"layout": "to_nhwc"}),
        OneOp("dequantize: every code", "dequantize", [(np.arange(256, dtype=np.uint8), U8)], attrs=same),
        OneOp("dequantize: NHWC to NCHW", "dequantize", [(d.codes(2, 3, 2, 5), U8B)], attrs={"layout": "to_nchw"}),
        OneOp("transpose", "transpose", [(d.codes(2, 3, 4), U8)], attrs={"perm": [2, 0, 1]}),
        OneOp("reshape with an inferred dimension", "reshape", [(d.floats(2, 3, 4), None)], attrs={"shape": [4, "?"]}),
    ]


def _integer_weighted(d: Draw) -> list[OneOp]:
    def conv(name: str, x: np.ndarray, xq: Quant, weight: np.ndarray, out: Quant | None, attrs: dict[str, Any], **more: Any) -> OneOp:
        outputs = len(weight)
        constants = {"weight": weight, "scale": more.get("scale", d.scales(outputs))} | more.get("constants", {})
        return OneOp(name, "conv2d", [(x, xq), *more.get("residual", [])], out, constants, POINT | NONE | attrs)

    def bias(n: int) -> dict[str, np.ndarray]:
        return {"bias": d.floats(n)}

    padded = {"padding": [1, 1, 1, 1]}
    return [
        conv("conv2d: 3x3, padding, bias, ReLU", d.codes(1, 5, 4, 3), U8, d.weights(4, 3, 3, 3), U8B, padded | RELU, constants=bias(4)),
        conv("conv2d: 1x1 to float", d.codes(2, 2, 3, 9), U8, d.weights(3, 1, 1, 9), None, {}),
        conv(
            "conv2d: stride 2, uneven padding",
            d.codes(1, 6, 7, 2),
            U8B,
            d.weights(3, 3, 2, 2),
            U8,
            {"stride": [2, 3], "padding": [1, 0, 0, 2]},
        ),
        conv("conv2d: dilation", d.codes(1, 7, 6, 2), U8, d.weights(2, 2, 3, 2), U8B, {"dilation": [3, 2]} | padded),
        conv("conv2d: two groups", d.codes(1, 4, 4, 6), U8, d.weights(4, 3, 3, 3), U8B, {"groups": 2} | padded, constants=bias(4)),
        conv("conv2d: depthwise, ReLU6", d.codes(1, 4, 4, 5), U8, d.weights(5, 3, 3, 1), U8B, {"groups": 5} | padded | CLAMP),
        conv(
            "conv2d: asymmetric weights",
            d.codes(1, 4, 4, 3),
            U8,
            d.weights(4, 3, 3, 3, bits=4),
            U8B,
            padded,
            constants={"base": d.ints(4, limit=9)},
        ),
        conv(
            "conv2d: step 2 and base 1",
            d.codes(1, 3, 3, 4, q=U4),
            U4,
            d.weights(3, 2, 2, 4, bits=3),
            U4,
            {"step": 2},
            constants={"base": np.ones(3, np.int32)},
        ),
        conv("conv2d: ternary", d.codes(1, 4, 4, 4, q=U4), U4, np.clip(d.weights(3, 3, 3, 4, bits=2), -1, 1), U4, padded),
        conv("conv2d: negative weight scale", d.codes(1, 3, 3, 2), U8, d.weights(2, 3, 3, 2), U8, padded, scale=-d.scales(2)),
        conv(
            "conv2d: u8 residual, ReLU",
            d.codes(1, 3, 3, 4),
            U8,
            d.weights(4, 3, 3, 4),
            U8B,
            padded | RELU,
            residual=[(d.codes(1, 3, 3, 4), U8)],
        ),
        conv(
            "conv2d: float residual to float",
            d.codes(1, 3, 3, 4),
            U8,
            d.weights(4, 1, 1, 4),
            None,
            {},
            residual=[(d.floats(1, 3, 3, 4), None)],
        ),
        conv(
            "conv2d: sums beyond 2^24",
            np.full((1, 1, 1, 2100), 255, np.uint8),
            Quant(1.0, 0),
            np.full((3, 1, 1, 2100), 127, np.int8),
            None,
            {},
            scale=d.scales(3),
        ),
        OneOp(
            "linear: bias",
            "linear",
            [(d.codes(3, 20), U8)],
            U8B,
            {"weight": d.weights(5, 20), "scale": d.scales(5)} | bias(5),
            {"step": 1} | NONE,
        ),
        OneOp(
            "linear: rank 3, residual",
            "linear",
            [(d.codes(2, 2, 7), U8B), (d.codes(2, 2, 3), U8)],
            U8,
            {"weight": d.weights(3, 7), "scale": d.scales(3)},
            {"step": 1} | RELU,
        ),
    ]


def _float_weighted(d: Draw) -> list[OneOp]:
    step, padded = {"step": 1}, {"padding": [1, 1, 1, 1]}
    coded = {"weight": d.weights(3, 2, 2, 3, bits=4), "scale": d.scales(3), "base": d.ints(3, limit=9), "bias": d.floats(3)}
    tiny = np.float32(2.0**-75) * d.floats(4, 9)
    # fma(x[1], w[1], x[0]) lies so close to halfway between two floats that a double cannot tell on which side: 1 + 2^-11 + 2^-24 with
    # a rest of 2^-60 either way, and a subnormal with a rest of half its last bit, less 2^-196.
    near, below = 1 + 2.0**-12, [(2**23 + k) * 2.0**-98 for k in (1, -1)]
    beside_x = np.array([[2.0**-60, near], [-(2.0**-60), near], [2.0**-60, -near], [2.0**-127 + 2.0**-149, below[0]]], np.float32)
    beside_w = np.array([[1, near], [1, below[1]]], np.float32)
    return [
        OneOp(
            "conv2d: float, padding, ReLU",
            "conv2d",
            [(d.floats(1, 4, 4, 3), None)],
            None,
            {"weight": d.floats(4, 3, 3, 3), "bias": d.floats(4)},
            POINT | padded | RELU,
        ),
        OneOp(
            "conv2d: float, groups, residual",
            "conv2d",
            [(d.floats(1, 4, 3, 4), None), (d.floats(1, 4, 3, 2), None)],
            None,
            {"weight": d.floats(2, 3, 3, 2)},
            POINT | padded | CLAMP | {"groups": 2},
        ),
        OneOp("conv2d: codes expanded to float", "conv2d", [(d.floats(1, 4, 3, 3), None)], None, coded, POINT | NONE | {"stride": [2, 1]}),
        OneOp(
            "linear: sums halfway between floats",
            "linear",
            [(d.short_floats(6, 24), None)],
            None,
            {"weight": d.short_floats(8, 24)},
            step | NONE,
        ),
        OneOp("linear: sums beside halfway", "linear", [(beside_x, None)], None, {"weight": beside_w}, step | NONE),
        OneOp(
            "linear: float, wide exponents",
            "linear",
            [(d.floats(4, 40, spread=14), None)],
            None,
            {"weight": d.floats(6, 40, spread=14), "bias": d.floats(6)},
            step | NONE,
        ),
        OneOp("linear: subnormal sums", "linear", [(tiny, None)], None, {"weight": np.float32(2.0**-68) * d.floats(5, 9)}, step | NONE),
        OneOp(
            "linear: overflow to infinity",
            "linear",
            [(np.float32(2.0**100) * d.floats(3, 6), None)],
            None,
            {"weight": np.float32(2.0**27) * d.floats(4, 6)},
            step | RELU,
        ),
    ]


def _elementwise(d: Draw) -> list[OneOp]:
    special = np.array(SPECIAL, np.float32)
    pairs = np.array([(a, b) for a in SPECIAL for b in SPECIAL], np.float32)
    clamp = {"lo": 0, "hi": RELU6_BITS}
    table = np.array(d.random.sample(range(256), 256), np.uint8)
    return [
        OneOp("add: codes, ReLU", "add", [(d.codes(40), U8), (d.codes(40), U8B)], U8B, attrs=RELU),
        OneOp("add: codes and float to float", "add", [(d.codes(40), U8), (d.floats(40), None)], None, attrs=NONE),
        OneOp("add: special floats", "add", [(pairs[:, 0].copy(), None), (pairs[:, 1].copy(), None)], None, attrs=NONE),
        OneOp("add: special floats, ReLU6, to codes", "add", [(pairs[:, 0].copy(), None), (pairs[:, 1].copy(), None)], U4, attrs=CLAMP),
        OneOp("clamp: special floats", "clamp", [(np.concatenate([special, d.floats(30)]), None)], attrs=clamp),
        OneOp("clamp: no upper bound", "clamp", [(special, None)], attrs={"lo": 0, "hi": INF_BITS}),
        OneOp("affine", "affine", [(d.floats(6, 5), None)], None, {"scale": d.floats(5), "shift": d.floats(5)}),
        OneOp(
            "affine: halfway between floats",
            "affine",
            [(d.short_floats(30, 4), None)],
            None,
            {"scale": d.short_floats(4), "shift": d.short_floats(4)},
        ),
        OneOp("table", "table", [(np.arange(256, dtype=np.uint8), U8)], U8B, {"table": table}),
    ]


def _pools(d: Draw) -> list[OneOp]:
    floats = d.floats(1, 5, 6, 2)
    floats[0, 1, 2, 0], floats[0, 3, 3, 1], floats[0, 0, 0, :] = math.nan, math.inf, -math.inf
    resnet = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1], "dilation": [1, 1], "ceil_mode": 0}
    return [
        OneOp("max_pool2d: codes", "max_pool2d", [(d.codes(2, 7, 6, 3), U8)], attrs=resnet),
        OneOp("max_pool2d: float, NaN and infinities", "max_pool2d", [(floats, None)], attrs=resnet),
        OneOp("max_pool2d: ceil mode", "max_pool2d", [(d.codes(1, 6, 8, 2), U8)], attrs=resnet | {"padding": [0] * 4, "ceil_mode": 1}),
        OneOp(
            "max_pool2d: ceil mode drops a window in the padding",
            "max_pool2d",
            [(d.codes(1, 5, 5, 1), U8)],
            attrs=resnet | {"kernel": [2, 2], "ceil_mode": 1},
        ),
        OneOp("max_pool2d: dilation", "max_pool2d", [(d.codes(1, 7, 7, 2), U8)], attrs=resnet | {"dilation": [2, 2], "stride": [1, 2]}),
    ]


def _averages(d: Draw) -> list[OneOp]:
    pool = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1], "ceil_mode": 0, "count_include_pad": 1}
    inside, ceil = {"count_include_pad": 0}, {"ceil_mode": 1}
    x, f = d.codes(1, 6, 5, 3), d.floats(1, 6, 5, 3)
    return [
        OneOp("avg_pool2d: codes, padding counts", "avg_pool2d", [(x, U8)], U8B, attrs=pool),
        OneOp("avg_pool2d: codes, padding does not count", "avg_pool2d", [(x, U8)], U8, attrs=pool | inside),
        OneOp("avg_pool2d: codes to float, ceil mode", "avg_pool2d", [(x, U8)], None, attrs=pool | ceil),
        OneOp("avg_pool2d: float, padding counts", "avg_pool2d", [(f, None)], None, attrs=pool),
        OneOp(
            "avg_pool2d: float, 5x4 window, padding does not count",
            "avg_pool2d",
            [(f, None)],
            None,
            attrs=pool | inside | {"kernel": [5, 4]},
        ),
        OneOp("avg_pool2d: float to codes, ceil mode", "avg_pool2d", [(f, None)], U8, attrs=pool | ceil),
        OneOp("adaptive_avg_pool2d: codes", "adaptive_avg_pool2d", [(x, U8)], U8, attrs={"output": [4, 2]}),
        OneOp("adaptive_avg_pool2d: codes to float, 1x1", "adaptive_avg_pool2d", [(x, U8)], None, attrs={"output": [1, 1]}),
        OneOp("adaptive_avg_pool2d: float, larger than the image", "adaptive_avg_pool2d", [(f, None)], None, attrs={"output": [7, 3]}),
        OneOp("mean: codes", "mean", [(d.codes(2, 7, 7, 4), U8)], U8, attrs={"keepdim": 0}),
        OneOp("mean: codes, ties", "mean", [(d.codes(1, 1, 4, 60), Quant(1.0, 0))], Quant(0.5, 0), attrs={"keepdim": 1}),
        OneOp("mean: float", "mean", [(d.floats(2, 7, 9, 3), None)], None, attrs={"keepdim": 1}),
    ]


def _functions(d: Draw) -> list[OneOp]:
    """Every function over special values, small and large arguments, and the places where its definition changes."""
    edges = [
        -104.0,
        -103.5,
        -88.0,
        -87.0,
        88.7,
        88.8,
        89.0,
        0.93,
        -0.93,
        4.0,
        -4.1,
        3.0,
        -3.0,
        0.3466,
        -0.3465,
        9.5,
        -17.5,
        1e-6,
        -1e-20,
        1.4142135,
        1.4142137,
        1e-42,
        0.8813735,
    ]
    x = np.concatenate([np.array([*SPECIAL, *edges], np.float32), d.floats(24), d.floats(12, spread=6)])
    alpha = {"elu": 0x3FC00000, "leaky_relu": 0x3E4CCCCD}  # 1.5, 0.2
    cases = [OneOp(f"unary: {f}", "unary", [(x, None)], attrs={"function": f, "alpha": alpha.get(f, 0)}) for f in FUNCTIONS]
    silu = {"function": "silu", "alpha": 0}
    special = np.array(SPECIAL, np.float32)
    a, b = special[:, None].copy(), special[None].copy()
    cases += [OneOp(f"binary: {f}, special floats", "binary", [(a, None), (b, None)], attrs={"function": f}) for f in BINARY]
    return [
        *cases,
        OneOp("binary: gate of codes", "binary", [(d.codes(2, 3, 3, 4), U8), (d.codes(2, 1, 1, 4), U8B)], U4, attrs={"function": "mul"}),
        OneOp(
            "binary: constant",
            "binary",
            [(d.floats(2, 3, 1, 4), None)],
            constants={"other": d.floats(1, 3, 2, 1)},
            attrs={"function": "rdiv"},
        ),
        OneOp("unary: silu to codes", "unary", [(np.float32(0.5) * d.floats(40), None)], U8, attrs=silu),
        OneOp("prelu", "prelu", [(d.floats(9, 5), None)], constants={"slope": d.floats(5)}),
    ]


def _reductions(d: Draw) -> list[OneOp]:
    special = d.floats(3, 4, 5)
    special[0, 1, 2], special[1, 0, 0], special[2, 3, 4] = math.nan, math.inf, -math.inf

    def reduction(function: str, x: Operand, out: Quant | None, axes: list[int], keep: int) -> OneOp:
        name = f"reduce: {function} of {'floats' if x[1] is None else 'codes'} over {axes}"
        return OneOp(name, "reduce", [x], out, attrs={"function": function, "axes": axes, "keepdim": keep})

    cases = []
    for function in ("mean", "sum", "amax"):
        cases += [
            reduction(function, (d.codes(3, 4, 5), U8), U8B, [1], 1),
            reduction(function, (d.codes(2, 3, 4, 5), U8), None, [0, 3], 0),
            reduction(function, (d.floats(2, 9, 3, 4), None), None, [1, 2], 0),
            reduction(function, (special, None), None, [0, 2], 1),
            reduction(function, (d.floats(6, 7, 2), None), U8, [0, 1], 0),
        ]
    return cases


def _rows(d: Draw) -> list[OneOp]:
    """softmax and normalization: rows shorter, as long and longer than 16 elements, special values, constant rows."""
    plain, causal, log = ({"causal": c, "log": g} for c, g in ((0, 0), (1, 0), (0, 1)))
    special = np.tile(np.float32([0.5, 1, -2]), (7, 1))
    special[:6, 1] = [math.nan, math.inf, -math.inf, 1e30, -1e30, -104]
    special[6] = -math.inf
    norm, rms = ({"eps": 0x3727C5AC, "center": c} for c in (1, 0))
    both = {"weight": d.floats(21), "bias": d.floats(21)}
    constant = np.full((2, 5), 0.3, np.float32)
    return [
        OneOp("softmax: one element", "softmax", [(d.floats(3, 1), None)], attrs=plain),
        OneOp("softmax: 37 elements", "softmax", [(d.floats(3, 37), None)], attrs=plain),
        OneOp("softmax: to codes", "softmax", [(d.floats(2, 16), None)], Quant(1 / 256, 0), attrs=plain),
        OneOp("softmax: special values", "softmax", [(special, None)], attrs=plain),
        OneOp("softmax: causal", "softmax", [(d.floats(2, 5, 5), None)], attrs=causal),
        OneOp("softmax: causal, wider than high, to codes", "softmax", [(d.floats(3, 7), None)], U8B, attrs=causal),
        OneOp("softmax: causal, higher than wide", "softmax", [(d.floats(6, 3), None)], attrs=causal),
        OneOp("softmax: logarithm", "softmax", [(d.floats(4, 19), None)], attrs=log),
        OneOp("softmax: logarithm, special values", "softmax", [(special, None)], attrs=log),
        OneOp("layer_norm: weight and bias", "layer_norm", [(d.floats(3, 21), None)], constants=both, attrs=norm),
        OneOp("layer_norm: to codes", "layer_norm", [(d.floats(2, 32), None)], U8, attrs=norm),
        OneOp("layer_norm: bias", "layer_norm", [(d.floats(2, 2, 3), None)], constants={"bias": d.floats(3)}, attrs=norm),
        OneOp("layer_norm: equal elements, no eps", "layer_norm", [(constant, None)], attrs=norm | {"eps": 0}),
        OneOp("layer_norm: NaN and infinities", "layer_norm", [(special, None)], attrs=norm),
        OneOp("layer_norm: root mean square", "layer_norm", [(d.floats(3, 21), None)], constants=both, attrs=rms),
        OneOp("group_norm: groups of 3", "group_norm", [(d.floats(2, 3, 2, 6), None)], attrs={"eps": 0x3727C5AC, "groups": 2}),
        OneOp(
            "group_norm: groups of 16, weight and bias, to codes",
            "group_norm",
            [(d.floats(1, 2, 3, 32), None)],
            U8,
            {"weight": d.floats(32), "bias": d.floats(32)},
            {"eps": 0x3727C5AC, "groups": 2},
        ),
        OneOp("group_norm: channels by themselves", "group_norm", [(d.floats(2, 5, 4, 3), None)], attrs={"eps": 0x3A83126F, "groups": 3}),
    ]


def _products(d: Draw) -> list[OneOp]:
    plain, transposed = {"transpose_b": 0}, {"transpose_b": 1}
    middle = Quant(U8.scale, 128)

    def product(name: str, a: Operand, b: Operand, out: Quant | None, **attrs: int) -> OneOp:
        return OneOp(f"matmul: {name}", "matmul", [a, b], out, attrs=plain | attrs)

    return [
        product("codes", (d.codes(3, 9), U8), (d.codes(9, 4), U8B), U8B),
        product("codes, zero point 128, to float", (d.codes(2, 3, 8), U8B), (d.codes(2, 8, 5), middle), None),
        product("codes, transposed, one right operand for all", (d.codes(3, 2, 7), U8), (d.codes(1, 4, 7, q=U4), U4), U8, **transposed),
        product("codes, one left operand for all", (d.codes(1, 2, 3, 5, q=U4), U4), (d.codes(2, 1, 5, 3), U8), None),
        product("float", (d.floats(3, 9), None), (d.floats(9, 4), None), None),
        product("float, transposed, sums halfway", (d.short_floats(2, 5, 24), None), (d.short_floats(2, 6, 24), None), None, **transposed),
        product("float, NaN and infinities", (np.array([SPECIAL], np.float32), None), (d.floats(len(SPECIAL), 2), None), None),
    ]


def _movement(d: Draw) -> list[OneOp]:
    nearest = {"mode": "nearest", "align_corners": 0, "size": [0, 0], "factor": [2, 3], "step": [0, 0]}
    bilinear, image = nearest | {"mode": "bilinear"}, d.codes(1, 3, 4, 2)
    third = 0x3EAAAAAB  # f32(1/3)
    special = np.array([SPECIAL], np.float32).reshape(1, 3, 4, 1)
    mirrored = {"mode": "reflect", "before": [0, 2, 1, 0], "after": [0, 1, 3, 0], "value": 0}
    return [
        OneOp("concat: codes of three parameters", "concat", [(d.codes(2, 3, q=q), q) for q in (U8, U8B, U4)], U8B, attrs={"axis": 1}),
        OneOp("concat: to few bits", "concat", [(d.codes(30), U8), (d.codes(30, q=NARROW), NARROW)], U4, attrs={"axis": 0}),
        OneOp("concat: floats", "concat", [(d.floats(2, n, 3), None) for n in (1, 4)], attrs={"axis": 1}),
        OneOp("slice: every second", "slice", [(d.codes(2, 9, 3), U8)], attrs={"axis": 1, "start": 1, "end": 8, "step": 2}),
        OneOp("slice: to the end", "slice", [(d.floats(2, 5), None)], attrs={"axis": 1, "start": 2, "end": 2**31 - 1, "step": 1}),
        OneOp(
            "pad: codes",
            "pad",
            [(d.codes(2, 2, 3), U8)],
            attrs={"mode": "constant", "before": [0, 1, 2], "after": [1, 0, 1], "value": 117},
        ),
        OneOp("pad: floats, reflect", "pad", [(d.floats(1, 3, 4, 2), None)], attrs=mirrored),
        OneOp("pad: codes, replicate", "pad", [(image, U8)], attrs=mirrored | {"mode": "replicate"}),
        OneOp(
            "pad: minus infinity",
            "pad",
            [(d.floats(3), None)],
            attrs={"mode": "constant", "before": [1], "after": [1], "value": INF_BITS | 1 << 31},
        ),
        OneOp(
            "pixel_shuffle: torch's order",
            "pixel_shuffle",
            [(d.codes(2, 3, 2, 12), U8)],
            attrs={"factor": [2, 3], "crop": [0, 0, 0, 0], "order": "channels"},
        ),
        OneOp(
            "pixel_shuffle: pixels, less a border",
            "pixel_shuffle",
            [(d.floats(1, 3, 2, 12), None)],
            attrs={"factor": [3, 2], "crop": [1, 0, 4, 1], "order": "pixels"},
        ),
        OneOp("table: per channel", "table", [(d.codes(4, 3), U8)], U8B, {"table": d.codes(3, 256)}),
        OneOp("constant", "constant", [(d.floats(1), None)], constants={"value": d.floats(2, 3)}),
        OneOp("expand", "expand", [(d.codes(1, 3, 1, 2), U8)], attrs={"shape": [2, 0, 4, 0]}),
        OneOp("upsample: nearest, factors", "upsample", [(image, U8)], attrs=nearest),
        OneOp(
            "upsample: nearest to a size", "upsample", [(d.floats(1, 5, 7, 1), None)], attrs=nearest | {"size": [3, 10], "factor": [0, 0]}
        ),
        OneOp(
            "upsample: nearest by a step",
            "upsample",
            [(image, U8)],
            attrs=nearest | {"size": [7, 10], "factor": [0, 0], "step": [third] * 2},
        ),
        OneOp("upsample: bilinear, codes", "upsample", [(image, U8)], U8B, attrs=bilinear),
        OneOp("upsample: bilinear, codes to float, corners", "upsample", [(image, U8)], attrs=bilinear | {"align_corners": 1}),
        OneOp(
            "upsample: bilinear, smaller, by a step",
            "upsample",
            [(d.floats(2, 7, 5, 2), None)],
            U8,
            attrs=bilinear | {"size": [3, 9], "factor": [0, 0], "step": [0, third]},
        ),
        OneOp("upsample: bilinear, special floats", "upsample", [(special, None)], attrs=bilinear),
        OneOp(
            "upsample: bilinear to one row",
            "upsample",
            [(image, U8)],
            attrs=bilinear | {"size": [1, 4], "factor": [0, 0], "align_corners": 1},
        ),
    ]


def _dynamic(d: Draw) -> list[OneOp]:
    """linear_dynamic, and float layers of group-wise weights."""
    eps, torch_eps = 0x34000000, 0x00800000  # 2^-23 and the smallest normal number
    plain = {"mapping": "symmetric", "granularity": "row", "qmin": 0, "qmax": 255, "eps": eps, "step": 1} | NONE
    asymmetric = plain | {"mapping": "asymmetric", "eps": torch_eps}

    def case(name: str, x: np.ndarray, shape: tuple[int, ...], attrs: dict[str, Any], bits: int = 8, **more: np.ndarray) -> OneOp:
        inputs = x.shape[-1]
        weight = {"weight": d.weights(shape[0], inputs, bits=bits), "scale": d.scales(math.prod(shape)).reshape(shape)}
        return OneOp(f"linear_dynamic: {name}", "linear_dynamic", [(x, None)], None, weight | more, attrs)

    special = d.floats(8, 12)
    special[0], special[1, 3], special[2, 0], special[3] = 0, math.nan, math.inf, math.nan
    special[4] *= np.float32(1e-44)
    special[5, :2], special[6], special[7] = (3.4028235e38, -3.4028235e38), -np.abs(special[6]), np.abs(special[7])
    ties = np.array([[127.5, *(0.5 * k for k in range(-9, 10))], [-128, *(0.5 * k for k in range(-9, 10))]], np.float32)
    return [
        case("symmetric rows, bias", d.floats(4, 21), (5,), plain, bias=d.floats(5)),
        case("symmetric rows, special values", special, (3,), plain),
        case("asymmetric rows, special values", special, (3,), asymmetric, bias=d.floats(3)),
        case("symmetric rows, ties", ties, (3,), plain),
        case("asymmetric rows, ties", ties, (3,), asymmetric),
        case("narrow range, ReLU", d.floats(3, 9), (4,), plain | {"qmin": 1, "qmax": 127} | RELU),
        case("one range for the tensor", d.floats(2, 3, 10), (4,), asymmetric | {"granularity": "tensor"} | CLAMP),
        case("one symmetric range for the tensor", d.floats(3, 10, spread=9), (4,), plain | {"granularity": "tensor"}),
        case("groups of 4", d.floats(4, 20), (5, 5), asymmetric, bits=4, bias=d.floats(5)),
        case("groups of 3, bases", d.floats(3, 12), (4, 4), asymmetric, bits=4, base=d.ints(4, 4, limit=8)),
        case("bases", d.floats(3, 12), (4,), plain, bits=4, base=d.ints(4, limit=8)),
        case("step 2, base 1", d.floats(3, 8), (4, 2), plain | {"step": 2}, bits=3, base=np.ones((4, 2), np.int32)),
        OneOp(
            "linear_dynamic: to codes",
            "linear_dynamic",
            [(d.floats(4, 14), None)],
            U8,
            {"weight": d.weights(6, 14), "scale": d.scales(6)},
            asymmetric,
        ),
        OneOp(
            "linear: float, codes in groups",
            "linear",
            [(d.floats(3, 12), None)],
            None,
            {"weight": d.weights(4, 12, bits=4), "scale": d.scales(16).reshape(4, 4), "base": d.ints(4, 4, limit=8)},
            {"step": 1} | NONE,
        ),
    ]


def _lookups(d: Draw) -> list[OneOp]:
    indices = np.array([[0, 6, 3], [3, 3, 5]], np.int32)
    floats, codes = {"weight": d.floats(7, 5)}, {"weight": d.weights(7, 5), "scale": d.scales(7)}
    return [
        OneOp("embedding: float", "embedding", [(indices, None)], None, floats, {"step": 1}),
        OneOp("embedding: float to codes", "embedding", [(indices[0], None)], U8, floats, {"step": 1}),
        OneOp("embedding: codes", "embedding", [(indices, None)], None, codes, {"step": 1}),
        OneOp(
            "embedding: codes and bases to codes", "embedding", [(indices, None)], U8B, codes | {"base": d.ints(7, limit=9)}, {"step": 2}
        ),
    ]


def encode(array: np.ndarray) -> dict[str, Any]:
    """Floats as their bit patterns."""
    bits = array.view(np.uint32) if array.dtype == np.float32 else array
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": bits.ravel().tolist()}


def document() -> str:
    """One line per case."""
    lines = []
    for case in cases():
        entry = {
            "name": case.name,
            "graph": case.graph(),
            "constants": [encode(array) for array in case.constant_arrays()],
            "inputs": {name: encode(np.ascontiguousarray(array)) for name, array in case.feeds().items()},
            "output": encode(np.ascontiguousarray(evaluate(case))),
        }
        lines.append(json.dumps(entry, separators=(",", ":")))
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    PATH.write_text(document())
