"""A progress bar for training: epoch, loss, accuracy, time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SILENT_SECONDS = 2.0
_REDRAW_SECONDS = 0.25


class TrainingBar:
    """Shows itself on stderr once training has taken two seconds.

    Args:
        text: stands in front. total: steps in all. shown: False for no bar at all.
    """

    def __init__(self, text: str, total: int, shown: bool) -> None:
        self._text, self._total, self._shown = text, total, shown
        self._start = self._drawn = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, status: str) -> None:
        """``done`` steps are taken; ``status`` is shown beside the bar."""
        now = time.monotonic()
        if not self._shown or now - self._start < _SILENT_SECONDS:
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, auto_refresh=False)
            self._bar.start()
            self._task = self._bar.add_task(self._text, total=self._total, completed=done, status=status)
        # Drawn at most four times a second, and by no thread of its own, which would take time from training.
        elif now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._bar.update(self._task, completed=done, status=status, refresh=True)
