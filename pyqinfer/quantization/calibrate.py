"""Runs a traced model on calibration batches and shows observers the tensors they watch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from pyqinfer.frontend.naming import source_line
from pyqinfer.quantization.observers import Watcher

_SILENT_SECONDS = 2.0
_Item = TypeVar("_Item")


def calibrate(module: GraphModule, observers: Mapping[Node, Watcher], data: Sequence[tuple[Tensor, ...]]) -> None:
    """Every observer sees its node's output of every batch. Raises ValueError naming the node whose output is not finite."""
    runner = _Observed(module, observers)
    with torch.no_grad():
        for batch in with_progress(data, "calibrating"):
            runner.run(*batch)


class _Observed(Interpreter):
    def __init__(self, module: GraphModule, observers: Mapping[Node, Watcher]) -> None:
        super().__init__(module)
        self._observers = observers

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        observer = self._observers.get(n)
        if observer is not None:
            try:
                observer.observe(result)
            except ValueError as error:
                raise ValueError(f"calibrating {n.name!r} ({source_line(n) or 'unknown source'}): {error}") from None
        return result


def with_progress(items: Sequence[_Item], text: str) -> Iterator[_Item]:
    """The items, with a progress bar on stderr if they take longer than two seconds."""
    return _tracked(items, len(items), text)


def _tracked(items: Iterable[_Item], total: int, text: str) -> Iterator[_Item]:
    start = time.monotonic()
    bar: Progress | None = None
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - start > _SILENT_SECONDS:
                bar = Progress(console=Console(stderr=True), transient=True)
                bar.start()
                task = bar.add_task(text, total=total)
            if bar is not None:
                bar.update(task, completed=done)
            yield item
    finally:
        if bar is not None:
            bar.stop()
