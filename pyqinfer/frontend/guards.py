"""What torch.export found out about the sizes that it left open: its graph is the model's only where these conditions hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sympy
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils._sympy.functions import (
    CeilToInt,
    FloatTrueDiv,
    FloorDiv,
    FloorToInt,
    IntTrueDiv,
    Max,
    Min,
    Mod,
    PythonMod,
    ToFloat,
    TruncToInt,
)

from pyqinfer.frontend.values import NotSupportedHere
from pyqinfer.terms import Condition, Term

# torch writes an upper bound that nobody gave as a number this large, or as infinity.
_NO_BOUND = 2**31 - 1
# The least size of which torch.export says anything: it treats 0 and 1 apart, and lets its programs run with both.
_LEAST_SAID = 2
# Where torch computes what an operation gives, as opposed to its modules and functions, which belong to a model.
_TRACING = ("_ops.py", "_meta_registrations", "_decomp", "_refs", "_prims", "_subclasses", "_export", "_higher_order_ops")
# Fractions with larger denominators are taken for rounded ones.
_LARGEST_DENOMINATOR = 1024
_COMPARISONS: dict[Any, str] = {sympy.Eq: "==", sympy.Ne: "!=", sympy.Lt: "<", sympy.Le: "<="}
_FUNCTIONS: dict[Any, str] = {FloorDiv: "//", Mod: "%", PythonMod: "%"}
_FOLDS: dict[Any, str] = {sympy.Add: "+", sympy.Mul: "*", Max: "max", sympy.Max: "max", Min: "min", sympy.Min: "min"}


def numbers_of(shape: Sequence[Any], batch: int | None = None) -> tuple[int, ...]:
    """A shape's sizes as they were traced, or for another batch, which is dimension 0; 1 for what torch does not know any more.

    Torch's own ``int(size)`` would fix a size to its number from then on.
    """
    first = shape[0] if shape and not is_concrete_int(shape[0]) else None
    moved = {} if batch is None or first is None else dict.fromkeys(first.node.expr.free_symbols, batch)
    numbers = []
    for size in shape:
        if is_concrete_int(size):
            numbers.append(int(size))
            continue
        expression, known = size.node.expr, size.node.shape_env.backed_var_to_val
        values = {symbol: moved.get(symbol, known.get(symbol, 1)) for symbol in expression.free_symbols}
        numbers.append(int(expression.subs(values)))
    return tuple(numbers)


def conditions_of(sizes: Iterable[Any], names: Mapping[sympy.Symbol, int | str]) -> list[Condition]:
    """What must hold of the sizes that stay open.

    Args:
        sizes: the open sizes of a graph's inputs as torch has them.
        names: what each of their symbols is: the name of an open dimension, or the number to which it is fixed.

    Raises:
        ValueError: a fixed size breaks a condition.
        NotSupportedHere: a condition on an open size that the file cannot hold.
    """
    fixed = {symbol: value for symbol, value in names.items() if isinstance(value, int)}
    found: dict[Condition, None] = {}
    for expression in _expressions(sizes, names):
        if not set(names).issuperset(expression.free_symbols):
            continue  # It is about strides, which the engine's arrays do not have, or about sizes that depend on data.
        rest = expression.subs(fixed)
        if rest == sympy.false:
            numbers = ", ".join(f"{symbol} = {value}" for symbol, value in fixed.items() if symbol in expression.free_symbols)
            raise ValueError(f"example_inputs: the model was traced for {expression}, and {numbers} breaks that")
        for part in sympy.And.make_args(rest):
            if part != sympy.true:
                found[_condition(part, names)] = None
    return list(found)


def hold_for(sizes: Sequence[tuple[Any, int]]) -> bool:
    """Whether a graph is the model's where its inputs' open sizes have these numbers."""
    numbers = {size.node.expr: number for size, number in sizes if size.node.expr.is_Symbol}
    found = _expressions([size for size, _ in sizes], numbers)
    return all(expression.subs(numbers) != sympy.false for expression in found)


def pinned_symbols(sizes: Iterable[Any]) -> set[sympy.Symbol]:
    """The symbols that stand for a single number, which the graph was traced for."""
    sizes = list(sizes)
    symbols = {symbol for size in sizes for symbol in size.node.expr.free_symbols}
    parts = (part for expression in _expressions(sizes, symbols) for part in sympy.And.make_args(expression))
    return {part.lhs for part in parts if isinstance(part, sympy.Eq) and part.lhs in symbols and part.rhs.is_Integer}


def _expressions(sizes: Iterable[Any], symbols: Iterable[sympy.Symbol]) -> Iterator[Any]:
    environments = {id(size.node.shape_env): size.node.shape_env for size in sizes}
    for env in environments.values():
        for guard in env.guards:
            if not _is_about_layout(guard):
                yield env.simplify(guard.expr)
        for asserts in env.deferred_runtime_asserts.values():
            for assertion in asserts:
                yield env.simplify(assertion.expr)
        for symbol in symbols:
            bounds = env.var_to_range.get(symbol)
            if bounds is None:
                continue
            if bounds.lower.is_Integer and bounds.lower > _LEAST_SAID:
                yield sympy.Le(bounds.lower, symbol)
            if bounds.upper.is_Integer and bounds.upper < _NO_BOUND:
                yield sympy.Le(symbol, bounds.upper)


def _is_about_layout(guard: Any) -> bool:
    """Whether torch's own tracing asked if a size is 1, to know how a tensor lies in memory: the values are the same either way."""
    expression = guard.expr.reversed if isinstance(guard.expr, (sympy.Gt, sympy.Ge)) else guard.expr
    excludes_one = (isinstance(expression, sympy.Ne) and 1 in expression.args) or (
        isinstance(expression, (sympy.Lt, sympy.Le)) and expression.lhs == (1 if isinstance(expression, sympy.Lt) else 2)
    )
    asked_in = getattr(guard.sloc.framework_loc, "filename", "")
    return bool(excludes_one) and any(f"{os.sep}torch{os.sep}{room}" in asked_in for room in _TRACING)


def _condition(expression: Any, names: Mapping[sympy.Symbol, int | str]) -> Condition:
    if isinstance(expression, (sympy.Gt, sympy.Ge)):
        expression = expression.reversed
    if isinstance(expression, (sympy.Or, sympy.And, sympy.Not)):
        expression = sympy.Eq(_zero_where(expression), 0, evaluate=False)
    comparison = _COMPARISONS.get(type(expression))
    if comparison is None:
        raise NotSupportedHere(f"the model was traced for {expression}, which a file cannot say")
    # Both sides get what the other one subtracts, so that no number is negative.
    difference, divisor = sympy.fraction(sympy.together(_exact(expression.lhs) - _exact(expression.rhs)))
    left, right = _sides(difference if divisor.is_Integer else expression.lhs - expression.rhs)
    return (comparison, term_of(left, names), term_of(right, names))


def _zero_where(expression: Any) -> Any:
    """Arithmetic that is 0 where a statement about sizes is true, and not negative, nor 0, elsewhere."""
    if isinstance(expression, sympy.Or):
        return sympy.Mul(*map(_zero_where, expression.args))
    if isinstance(expression, sympy.And):
        return sympy.Add(*map(_zero_where, expression.args))
    if isinstance(expression, sympy.Not):
        return 1 - sympy.Min(1, _zero_where(expression.args[0]))
    if isinstance(expression, (sympy.Gt, sympy.Ge)):
        expression = expression.reversed
    above = expression.lhs - expression.rhs
    if isinstance(expression, sympy.Le):
        return sympy.Max(above, 0)
    if isinstance(expression, sympy.Lt):
        return sympy.Max(above + 1, 0)
    if isinstance(expression, (sympy.Eq, sympy.Ne)):
        distance = sympy.Max(above, 0) + sympy.Max(-above, 0)
        return distance if isinstance(expression, sympy.Eq) else 1 - sympy.Min(1, distance)
    raise NotSupportedHere(f"the model was traced for {expression}, which a file cannot say")


def _sides(difference: Any) -> tuple[Any, Any]:
    """Sums ``a`` and ``b`` without negative factors, ``a - b`` the difference."""
    terms = sympy.Add.make_args(sympy.expand(difference))
    negative = [term for term in terms if term.as_coeff_Mul()[0] < 0]
    positive = [term for term in terms if term.as_coeff_Mul()[0] > 0]
    return sympy.Add(*positive), sympy.Add(*(-term for term in negative))


def simplified(expression: Any) -> Any:
    """Torch's arithmetic on sizes without what makes it nest: rounding up to a multiple, and quotients of quotients.

    ``y + (w - y % w) % w`` is ``w`` times ``(y + w - 1) // w``, and ``(x // a + c) // b`` is ``(x + a * c) // (a * b)``.
    """
    if not expression.has(Mod, PythonMod, FloorDiv):
        return expression
    if expression.args:
        parts = [simplified(part) for part in expression.args]
        expression = expression.func(*parts) if parts != list(expression.args) else expression
    if isinstance(expression, (Mod, PythonMod)) and (missing := _to_a_multiple(expression)) is not None:
        return missing
    if isinstance(expression, FloorDiv) and expression.args[1].is_Integer:
        numerator, divisor = expression.args
        if all(part.as_coeff_Mul()[0] < 0 for part in sympy.Add.make_args(numerator)):  # a file has no negative numbers
            return -simplified(FloorDiv(divisor - 1 - numerator, divisor))
        inside = [part for part in sympy.Add.make_args(numerator) if isinstance(part, FloorDiv) and part.args[1].is_Integer]
        rest = numerator - sympy.Add(*inside)
        if len(inside) == 1 and rest.is_Integer:
            x, first = inside[0].args
            return simplified(FloorDiv(x + rest * first, first * divisor))
    return expression


def _to_a_multiple(expression: Any) -> Any:
    """What lacks a size to the next multiple, if ``expression`` is ``(w - y % w) % w`` or ``-y % w``; else None."""
    difference, width = expression.args
    rest = width - difference
    if not width.is_Integer:
        return None
    if isinstance(rest, (Mod, PythonMod)) and rest.args[1] == width:
        y = rest.args[0]
    elif isinstance(expression, PythonMod) and all(part.as_coeff_Mul()[0] < 0 for part in sympy.Add.make_args(difference)):
        y = -difference
    else:
        return None
    return width * simplified(FloorDiv(y + width - 1, width)) - y


def term_of(expression: Any, names: Mapping[sympy.Symbol, int | str]) -> Term:
    """Integer arithmetic of torch's as a term of the file. Raises NotSupportedHere for what the file cannot say."""
    expression = simplified(expression)
    if expression.is_Integer and expression >= 0:
        return int(expression)
    if expression.is_Symbol and expression in names:
        return names[expression]
    if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and 1 < expression.exp <= 8:
        return _folded("*", [term_of(expression.base, names)] * int(expression.exp))
    if isinstance(expression, sympy.Add):
        left, right = _sides(expression)
        if right != 0:
            return ("-", term_of(left, names), term_of(right, names))
    for kind, op in _FOLDS.items():
        if isinstance(expression, kind):
            return _folded(op, [term_of(a, names) for a in expression.args])
    if isinstance(expression, (CeilToInt, FloorToInt, TruncToInt)):
        return _rounded(expression, names)
    for kind, op in _FUNCTIONS.items():
        if isinstance(expression, kind):
            numerator, divisor = expression.args
            return (op, term_of(numerator, names), term_of(divisor, names))
    raise NotSupportedHere(f"the model computes with {expression}, which a file cannot say")


def _rounded(expression: Any, names: Mapping[sympy.Symbol, int | str]) -> Term:
    """A quotient that is rounded up or down, of whole numbers plus a fraction that is exact in binary. Sizes are not negative."""
    numerator, divisor = sympy.fraction(sympy.together(_exact(expression.args[0])))
    if not divisor.is_Integer or not numerator.is_integer:
        raise NotSupportedHere(f"the model computes with {expression}, which a file cannot say")
    numerator = sympy.expand(numerator) + (divisor - 1 if isinstance(expression, CeilToInt) else 0)
    return term_of(numerator if divisor == 1 else FloorDiv(numerator, divisor), names)


def _exact(expression: Any) -> Any:
    """Torch's arithmetic on floats as arithmetic on fractions, where no step of it rounds."""
    if expression.is_Float:
        fraction = sympy.Rational(float(expression))
        return fraction if fraction.q <= _LARGEST_DENOMINATOR else expression
    parts = [_exact(part) for part in expression.args]
    if isinstance(expression, ToFloat):
        return parts[0]
    if isinstance(expression, (IntTrueDiv, FloatTrueDiv)):
        return parts[0] / parts[1]
    return expression.func(*parts) if isinstance(expression, (sympy.Add, sympy.Mul)) else expression


def _folded(op: str, terms: list[Term]) -> Term:
    result = terms[0]
    for term in terms[1:]:
        result = (op, result, term)
    return result
