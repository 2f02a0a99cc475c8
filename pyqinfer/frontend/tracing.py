"""A module's graph: torch.export of the model itself, with stand-ins for what it could not trace, or would trace into unreadable ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.functional import export_functional
from pyqinfer.frontend.sources.registry import SOURCES
from pyqinfer.frontend.traced_as import TracedAs
from pyqinfer.frontend.values import NotSupportedHere


def trace(model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True, dynamic_size: bool = False) -> GraphModule:
    """The graph that is imported for a module.

    Raises:
        UnsupportedError: all quantized modules that no stand-in takes the place of.
    """
    stand_ins = _StandIns()
    exchanged = {function: other for source in SOURCES for function, other in source.functions.items()}
    with swapped(stand_ins.plain(model), stand_ins) as plain, TracedAs(exchanged):
        stand_ins.raise_problems()
        exported = export_functional(plain, examples, dynamic_batch, dynamic_size)
    for source in SOURCES:
        source.refine(model, exported)
    return exported


class _StandIns:
    """Chooses what takes a module's place while a model is exported; keeps what cannot be read."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __call__(self, name: str, module: nn.Module) -> nn.Module | None:
        try:
            found = (source.stand_in(module) for source in SOURCES)
            return next((stand_in for stand_in in found if stand_in is not None), None)
        except NotSupportedHere as reason:
            self._problems.append(f"{name}: {reason}")
            return None
        except ValueError as error:
            raise ValueError(f"{name} ({type(module).__name__}): {error}") from None

    def plain(self, model: nn.Module) -> nn.Module:
        """The model itself, or one that computes the same in traceable ops."""
        try:
            found = (source.plain(model) for source in SOURCES)
            return next((plain for plain in found if plain is not None), model)
        except NotSupportedHere as reason:
            self._problems.append(str(reason))
            return model

    def raise_problems(self) -> None:
        """One UnsupportedError that lists every module that cannot be read."""
        if self._problems:
            lines = "".join(f"\n  - {problem}" for problem in self._problems)
            raise UnsupportedError(f"{len(self._problems)} module(s) cannot be converted:{lines}")


Replacement = Callable[[str, nn.Module], nn.Module | None]


@contextmanager
def swapped(model: nn.Module, replacement: Replacement) -> Iterator[nn.Module]:
    """``model`` with every module for which ``replacement(name, module)`` gives another one exchanged while the context lasts.

    A module that is reached by several names gets one stand-in, made for the first name.
    """
    whole = replacement("", model)
    if whole is not None:
        yield whole
        return
    changed: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        _swap_children(model, "", replacement, {}, changed)
        yield model
    finally:
        for parent, name, module in changed:
            parent._modules[name] = module


def _swap_children(
    parent: nn.Module,
    path: str,
    replacement: Replacement,
    seen: dict[nn.Module, nn.Module | None],
    changed: list[tuple[nn.Module, str, nn.Module]],
) -> None:
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        full = f"{path}.{name}" if path else name
        first = child not in seen
        if first:
            seen[child] = replacement(full, child)
        stand_in = seen[child]
        if stand_in is not None:
            changed.append((parent, name, child))
            parent._modules[name] = stand_in
        elif first:
            _swap_children(child, full, replacement, seen, changed)
