"""The sizes of a graph's inputs: which are numbers, which are open, and what must hold of the open ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer import ir
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.guards import conditions_of, pinned_symbols, simplified, term_of
from pyqinfer.frontend.values import NotSupportedHere
from pyqinfer.names import unique_name
from pyqinfer.terms import Condition, Term, holds, term_text, text_of

# A size as torch's graph has it, a number or a symbol, and the number that it has in the example inputs.
Size = tuple[Any, int]
# Terms of up to so many operations are simplified.
_SHORT = 12


class InputSizes:
    """Names and numbers for the sizes of all inputs.

    A symbol is called N for the batch, C, H and W in images, D elsewhere, with a number behind where there are several. Inputs whose sizes
    torch found to be equal share one; one that torch found to be computed from others (twice the batch) has a symbol and a condition.

    Args:
        sizes: those of every input.
        open_batch, open_sizes: whether dimension 0, and whether the other dimensions stay open.
        shared: open sizes that lie on one axis of several inputs and are equal in the examples are one, whatever torch knows.

    Raises:
        ValueError: the examples' sizes are not those that the graph was traced for.
        UnsupportedError: a condition on an open size that a file cannot hold.
    """

    def __init__(self, sizes: Sequence[Sequence[Size]], open_batch: bool, open_sizes: bool, shared: bool = False) -> None:
        self.numbers: dict[str, int] = {}  # for each symbol the number that it has in the examples
        self.computed: dict[str, Term] = {}  # names of sizes that are computed from symbols, and what they are
        self.conditions: list[Condition] = []
        self.examples = [tuple(number for _, number in shape) for shape in sizes]
        traced = [size for shape in sizes for size, _ in shape if not is_concrete_int(size)]
        pinned = pinned_symbols(traced)
        self._dims: dict[sympy.Expr, ir.Dim] = {}
        self._named: dict[tuple[Any, int], int | str] = {}
        self._known: dict[sympy.Expr, Any] = {}
        self._shared: dict[tuple[int, int], str] = {}  # (axis, number in the examples) -> the first symbol there
        for shape in sizes:
            for axis, (size, number) in enumerate(shape):
                if not is_concrete_int(size) and size.node.expr.is_Symbol and size.node.expr not in self._dims:
                    is_open = (open_batch if axis == 0 else open_sizes) and size.node.expr not in pinned
                    known = self._shared.get((axis, number)) if shared else None
                    self._dims[size.node.expr] = (known or self._name(axis, len(shape), number)) if is_open else number
        names = {symbol: dim for symbol, dim in self._dims.items() if dim is not None}
        self._values = {
            symbol: sympy.Integer(dim) if isinstance(dim, int) else sympy.Symbol(dim, integer=True, positive=True)
            for symbol, dim in names.items()
        }
        try:
            self.conditions += conditions_of(traced, names)
            self.shapes = [tuple(self._dim(size, axis, len(shape), names) for axis, size in enumerate(shape)) for shape in sizes]
        except NotSupportedHere as reason:
            raise UnsupportedError(f"1 operation(s) cannot be converted:\n  - inputs: {reason}") from None

    def dim_of(self, size: Any) -> ir.Dim:
        """What a size of torch's graph is: a number, a symbol, or None where it is computed from symbols."""
        value = self._value_of(size)
        if value.is_Integer:
            return int(value)
        return value.name if value.is_Symbol and value.name in self.numbers else None

    def named(self, size: Any, more: int = 0) -> int | str:
        """A number, a symbol, or a name for what ``size + more`` is computed from. Raises NotSupportedHere where a file cannot say it."""
        known = (int(size) if is_concrete_int(size) else size.node.expr, more)
        if known not in self._named:
            self._named[known] = self._new_name(size, more)
        return self._named[known]

    def _new_name(self, size: Any, more: int) -> int | str:
        value = self._value_of(size) + more
        if value.is_Integer:
            return int(value)
        if value.is_Symbol and value.name in self.numbers:
            return str(value.name)
        term = term_of(value, {symbol: symbol.name for symbol in value.free_symbols if symbol.name in self.numbers})
        if isinstance(term, (int, str)):
            return term
        name = term_text(term)
        self.computed[name] = term
        return name

    def _value_of(self, size: Any) -> Any:
        if is_concrete_int(size):
            return sympy.Integer(int(size))
        expression = size.node.expr
        if expression not in self._known:
            value = simplified(expression.subs(self._values))
            # torch has simplified what it says; only a substitution may leave more to do, and long terms take sympy seconds each.
            self._known[expression] = sympy.simplify(value) if value.count_ops() <= _SHORT else value
        return self._known[expression]

    def require(self, conditions: Sequence[Condition]) -> None:
        """Add conditions that the conversion of an operation rests on. Raises UnsupportedError where the examples break one."""
        conditions = [(comparison, self._spelled(left), self._spelled(right)) for comparison, left, right in conditions]
        broken = next((condition for condition in [*self.conditions, *conditions] if not holds(condition, self.numbers)), None)
        if broken is not None:
            reason = f"an open size must fulfil {text_of(broken)}, and the examples do not"
            raise UnsupportedError(f"1 operation(s) cannot be converted:\n  - inputs: {reason}")
        self.conditions += conditions

    def problem_of(self, inputs: Sequence[Any]) -> str | None:
        """Why the graph is not the model's for inputs (tensors) of these shapes; None if it is."""
        numbers: dict[str, int] = {}
        for i, (expected, x) in enumerate(zip(self.shapes, inputs, strict=True)):
            got = tuple(x.shape)
            bound = [numbers.setdefault(dim, size) if isinstance(dim, str) else dim for dim, size in zip(expected, got, strict=False)]
            if len(expected) != len(got) or tuple(bound) != got:
                wanted = ", ".join(str(dim) for dim in expected)
                return f"input {i} has shape {list(got)}, and the model was traced for [{wanted}]"
        broken = next((condition for condition in self.conditions if not holds(condition, numbers)), None)
        return None if broken is None else f"the model was traced for {text_of(broken)}, and the inputs have {numbers}"

    def _spelled(self, term: Term) -> Term:
        """A term without names of computed sizes."""
        return self.computed.get(term, term) if isinstance(term, str) else term

    def _dim(self, size: Size, axis: int, rank: int, names: dict[sympy.Symbol, int | str]) -> ir.Dim:
        traced, number = size
        if is_concrete_int(traced):
            return int(traced)
        expression = traced.node.expr
        if expression not in self._dims:
            rest = expression.subs({symbol: dim for symbol, dim in names.items() if isinstance(dim, int)})
            if rest.is_Integer:
                self._dims[expression] = int(rest)
            else:
                if not set(names).issuperset(rest.free_symbols):
                    raise NotSupportedHere(f"a dimension is {rest}, whose parts are no dimensions themselves")
                name = self._name(axis, rank, number)
                self.conditions.append(("==", name, term_of(rest, names)))
                self._dims[expression] = name
        dim = self._dims[expression]
        if isinstance(dim, int) and dim != number:
            raise ValueError(f"example_inputs: dimension {axis} is {number}, and the graph was traced for {dim} there")
        return dim

    def _name(self, axis: int, rank: int, number: int) -> str:
        letter = "N" if axis == 0 else "CHW"[axis - 1] if rank == 4 else "D"
        name = unique_name(letter, self.numbers.__contains__, separator="")
        self.numbers[name] = number
        self._shared.setdefault((axis, number), name)
        return name
