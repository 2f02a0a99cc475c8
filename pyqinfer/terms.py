"""Integer arithmetic on the sizes of a model's inputs, as a file holds it (docs/format.md, "conditions")."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

# What is computed from sizes: a number >= 0, the name of a symbol, or an operation (+ - * // % min max) on two of these.
Term = int | str | tuple[str, "Term", "Term"]
# A comparison (== != < <=) of two terms, which the inputs' sizes must fulfil.
Condition = tuple[str, Term, Term]

_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le}
_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}


def number_of(term: Term, numbers: Mapping[str, int]) -> int:
    """The term's number where each symbol stands for its number. Raises ZeroDivisionError."""
    if isinstance(term, str):
        return numbers[term]
    if isinstance(term, int):
        return term
    operation, left, right = term
    return _OPERATIONS[operation](number_of(left, numbers), number_of(right, numbers))


def holds(condition: Condition, numbers: Mapping[str, int]) -> bool:
    """Whether the numbers fulfil a condition; one that divides by zero is not fulfilled."""
    comparison, left, right = condition
    try:
        return _COMPARISONS[comparison](number_of(left, numbers), number_of(right, numbers))
    except ZeroDivisionError:
        return False


def text_of(condition: Condition) -> str:
    """The condition as people write it: "2 * (H // 2) == H"."""
    comparison, left, right = condition
    return f"{term_text(left)} {comparison} {term_text(right)}"


def term_text(term: Term, inside: bool = False) -> str:
    """The term as people write it; ``inside`` puts parentheses around an operation."""
    if not isinstance(term, tuple):
        return str(term)
    operation, left, right = term
    if operation in ("min", "max"):
        return f"{operation}({term_text(left)}, {term_text(right)})"
    text = f"{term_text(left, True)} {operation} {term_text(right, True)}"
    return f"({text})" if inside else text
