"""Complex numbers as pairs of values, their real and imaginary parts, and Fourier transforms, which are products with matrices.

``PAIRS`` are handlers of ops that read or give complex numbers; those that have names of their own are in ``HANDLERS`` as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils._pytree import tree_map

from pyqinfer import ir
from pyqinfer.frontend.aten.build import expanded, inner, tensor_of
from pyqinfer.frontend.aten.functions import angle_of
from pyqinfer.frontend.call import Arguments, all_constant, schema_call
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import Complex, NotSupportedHere

# The real and the imaginary part; None: all zeros.
_Parts = tuple[Tensor, Tensor | None]
# A transform of more elements would take a matrix that is larger than most networks.
_LONGEST = 4096
# Ops that do the same to both parts.
_BY_PARTS = (
    *(
        "slice",
        "select",
        "narrow",
        "view",
        "_unsafe_view",
        "reshape",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "permute",
        "transpose",
        "mT",
    ),
    *("expand", "clone", "contiguous", "alias", "detach", "index", "index_select", "flip", "roll", "unfold", "repeat", "copy"),
    *(
        "cat",
        "stack",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "slice_scatter",
        "select_scatter",
        "sum",
        "mean",
        "neg",
        "t",
        "diagonal",
        "pad",
        "constant_pad_nd",
    ),
)


def _by_parts(op: str) -> Handler:
    """The handler of an op that moves or adds elements, for the real parts and for the imaginary ones."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        found = []
        for imaginary in (False, True):
            part = tree_map(
                lambda leaf, imaginary=imaginary: _part(reader, node, leaf, imaginary), a, is_leaf=lambda leaf: isinstance(leaf, Complex)
            )
            if all_constant(part):
                target: Any = node.target
                found.append(target(**schema_call(target, part)))
            else:
                found.append(reader.handlers[f"aten::{op}"](reader, node, part))
        real, imag = found
        return [Complex(*both) for both in zip(real, imag, strict=True)] if isinstance(real, (list, tuple)) else Complex(real, imag)

    return run


def _part(reader: GraphReader, node: Node, leaf: Any, imaginary: bool) -> Any:
    if isinstance(leaf, Complex):
        return leaf.imag if imaginary else leaf.real
    if isinstance(leaf, Tensor) and leaf.is_complex():
        return (leaf.imag if imaginary else leaf.real).contiguous()
    if imaginary and isinstance(leaf, ir.Value) and not leaf.integer and leaf.quant is None:
        return composed(reader, node, lambda x: x * 0.0, {"x": leaf}, {"x": next(n for n in node.all_input_nodes if reader.env[n] is leaf)})
    return leaf


def _computed(function: Callable[..., Any]) -> Handler:
    """A handler, of a function that gets each tensor as its parts and gives a tensor, or the two parts of one."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        operands: dict[str, Any] = {}
        nodes: dict[str, str] = {}
        for name, value in a.items():
            if isinstance(value, Tensor) and value.is_complex():
                operands |= {f"{name}.real": value.real.contiguous(), f"{name}.imag": value.imag.contiguous()}
            elif isinstance(value, Complex):
                operands |= {f"{name}.real": value.real, f"{name}.imag": value.imag}
                nodes |= dict.fromkeys((f"{name}.real", f"{name}.imag"), name)
            else:
                operands[name] = value

        def joined(**tensors: Any) -> Any:
            arguments: dict[str, Any] = {}
            for name in a:
                if f"{name}.real" in tensors:
                    arguments[name] = (tensors[f"{name}.real"], tensors[f"{name}.imag"])
                else:
                    value = tensors[name]
                    arguments[name] = (value, None) if isinstance(value, Tensor) else value
            return function(**arguments)

        result = composed(reader, node, joined, operands, nodes)
        return Complex(*result) if isinstance(result, (list, tuple)) else result

    return run


def _parts_of(operand: Any) -> tuple[Any, Any]:
    """An operand's parts, of a number as well; the imaginary one may be None."""
    if isinstance(operand, complex):
        return operand.real, operand.imag
    return operand if isinstance(operand, tuple) else (operand, None)


def _products(self: Any, other: Any, multiply: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    (a, b), (c, d) = _parts_of(self), _parts_of(other)
    if b is None:
        return multiply(a, c), multiply(a, d)
    if d is None:
        return multiply(a, c), multiply(b, c)
    return multiply(a, c) - multiply(b, d), multiply(a, d) + multiply(b, c)


def _sum(self: Any, other: Any, alpha: float = 1) -> tuple[Any, Any]:
    (a, b), (c, d) = _parts_of(self), _parts_of(other)
    real = a + c * alpha
    imag = d * alpha if b is None else b if d is None else b + d * alpha
    return real, imag.expand(real.shape)


def _quotient(self: Any, other: Any) -> tuple[Any, Any]:
    c, d = _parts_of(other)
    if d is None:
        a, b = _parts_of(self)
        return a / c, b / c
    size = c * c + d * d
    return _products(self, (c / size, -d / size), lambda x, y: x * y)


def _exponential(self: _Parts) -> tuple[Tensor, Tensor]:
    real, imag = self
    assert imag is not None
    return real.exp() * imag.cos(), real.exp() * imag.sin()


def _magnitude(self: _Parts) -> Tensor:
    real, imag = self
    assert imag is not None
    return (real * real + imag * imag).sqrt()


def _conjugate(self: _Parts) -> tuple[Tensor, Tensor]:
    real, imag = self
    assert imag is not None
    return real * 1.0, -imag


def _cast(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """A cast of real numbers to complex ones, whose imaginary parts are 0."""
    if isinstance(a["self"], Complex):
        if not node.meta["val"].is_complex():
            raise NotSupportedHere("drops imaginary parts")
        return a["self"]
    x = tensor_of(reader, node, a["self"])
    return Complex(x, composed(reader, node, lambda self: self * 0.0, {"self": x}))


def _filled(value: float | None) -> Handler:
    """A tensor of one number, whose sizes may be those of the input."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        dims = reader.named_shape(node)
        if dims is None:
            raise NotSupportedHere("a tensor whose shape is not known")
        number = complex(a["fill_value"] if value is None else value)
        parts = (tensor_of(reader, node, torch.full((1,) * len(dims), part)) for part in (number.real, number.imag))
        return Complex(*(inner(expanded(reader, node, part, dims)) for part in parts))

    return run


def _fourier(kind: str) -> Handler:
    """``_fft_r2c``, ``_fft_c2c`` and ``_fft_c2r``: one dimension after the other, each by matrices of cosines and sines."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        source: Any = node.args[0]
        shape, dims = source.meta["val"].shape, [int(d) % len(source.meta["val"].shape) for d in a["dim"]]
        forward = kind == "r2c" or (kind == "c2c" and bool(a["forward"]))
        matrices: Arguments = {}
        # What is real or has one side alone comes last where numbers become real, and first where they were.
        order = dims[::-1] if kind == "r2c" else dims
        for d in order:
            is_real = kind != "c2c" and d == dims[-1]
            size = int(a["last_dim_size"]) if is_real and kind == "c2r" else reader.named(shape[d])
            if not isinstance(size, int) or size > _LONGEST:
                raise NotSupportedHere(f"a Fourier transform of {size} elements: the number must be known and at most {_LONGEST}")
            one_side = is_real and (kind == "c2r" or bool(a["onesided"]))
            matrices[f"cos{d}"], matrices[f"sin{d}"] = _matrices(
                size, one_side, is_real and kind == "c2r", forward, int(a["normalization"])
            )

        def transformed(self: Any, **tables: Any) -> Any:
            parts: tuple[Any, Any] = _parts_of(self)
            for d in order:
                (cos, _), (sin, _) = tables[f"cos{d}"], tables[f"sin{d}"]
                turned: list[Any] = [None if x is None else x.transpose(d, -1) for x in parts]
                real, imag = turned
                if kind == "c2r" and d == dims[-1]:
                    bins = cos.shape[0]
                    return (torch.matmul(real.narrow(-1, 0, bins), cos) - torch.matmul(imag.narrow(-1, 0, bins), sin)).transpose(d, -1)
                both = _products((real, imag), (cos, sin), torch.matmul)
                parts = (both[0].transpose(d, -1), both[1].transpose(d, -1))
            return parts

        return _computed(transformed)(reader, node, {"self": a["self"], **matrices})

    return run


def _matrices(size: int, one_side: bool, to_real: bool, forward: bool, normalization: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of a transform. ``to_real``: of half the frequencies, those whose mirror is left out count twice."""
    places = torch.arange(size, dtype=torch.int64)
    frequencies = places[: size // 2 + 1] if one_side else places
    angle = (places.unsqueeze(1) * frequencies % size).to(torch.float64) * (2 * math.pi / size)
    cos, sin = angle.cos(), -angle.sin() if forward else angle.sin()
    if to_real:
        counts = torch.full((len(frequencies), 1), 2.0, dtype=torch.float64)
        counts[0] = 1
        if size % 2 == 0:
            counts[-1] = 1
        cos, sin = cos.T * counts, sin.T * counts
    scale = {0: 1.0, 1: size**-0.5, 2: 1 / size}[normalization]
    return (cos * scale).float().contiguous(), (sin * scale).float().contiguous()


def _pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.select(-1, 0), x.select(-1, 1)


def _stacked(self: _Parts) -> Tensor:
    real, imag = self
    assert imag is not None
    return torch.stack([real, imag], -1)


def _of_real_parts(function: Callable[..., Any]) -> Handler:
    """The handler of a function of real tensors alone that gives the parts of a complex one."""
    return lambda reader, node, a: Complex(*composed(reader, node, function, a))


def _same(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return a["self"]


HANDLERS: dict[str, Handler] = {
    "view_as_complex": _of_real_parts(lambda self: _pair(self)),
    "view_as_real": _computed(_stacked),
    "complex": _of_real_parts(lambda real, imag: (real * 1.0, imag * 1.0)),
    "polar": _of_real_parts(lambda abs, angle: (abs * angle.cos(), abs * angle.sin())),
    "real": lambda r, n, a: a["self"].real if isinstance(a["self"], Complex) else a["self"],
    "imag": lambda r, n, a: a["self"].imag,
    "angle": _computed(lambda self: angle_of(self[1], self[0])),
    **dict.fromkeys(("_conj", "conj_physical"), _computed(_conjugate)),
    **dict.fromkeys(("resolve_conj", "resolve_neg"), _same),
    **{f"_fft_{kind}": _fourier(kind) for kind in ("r2c", "c2c", "c2r")},
}
PAIRS: dict[str, Handler] = {
    **HANDLERS,
    **{op: _by_parts(op) for op in _BY_PARTS},
    "mul": _computed(lambda self, other: _products(self, other, lambda x, y: x * y)),
    "add": _computed(_sum),
    "sub": _computed(lambda self, other, alpha=1: _sum(self, other, -alpha)),
    "div": _computed(lambda self, other: _quotient(self, other)),
    "matmul": _computed(lambda self, other: _products(self, other, torch.matmul)),
    **dict.fromkeys(("bmm", "mm"), _computed(lambda self, mat2: _products(self, mat2, torch.matmul))),
    "abs": _computed(_magnitude),
    "exp": _computed(_exponential),
    **dict.fromkeys(("_to_copy", "to", "type_as"), _cast),
    "zeros": _filled(0.0),
    "ones": _filled(1.0),
    "full": _filled(None),
}
