"""The packages whose models are tried, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from benchmarks.coverage.case import Case

PACKAGES = ("torchvision", "timm", "transformers", "layers")


def cases_of(package: str) -> list[Case]:
    """The models of a package. Raises ImportError where it is not installed."""
    found: Callable[[], list[Case]] = import_module(f"benchmarks.coverage.{package}_models").cases
    return found()
