"""The contract of a candidate: one engine with one variant of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case

FP32 = "fp32"
INT8 = "int8"


@dataclass(frozen=True)
class Loaded:
    """A candidate ready to be timed.

    Args:
        run: one inference on the case's inputs; its output as a float32 array, or a list of them.
        settings: what is in effect, as the engine itself reports it where it can (threads, precision, ISA, kinds of layers).
    """

    run: Callable[[], NDArray[np.float32] | Sequence[NDArray[np.float32]]]
    settings: Mapping[str, Any]


class Candidate(ABC):
    """One contestant. Engines are imported inside the methods: listing candidates needs none of them.

    Attributes:
        name: a unique name, printed.
        variant: ``fp32``, ``int8`` or weight/activation bits such as ``4/4``.
        packages: distributions it needs beyond torch.
        is_peer: False for pyqinfer itself.
    """

    name: str
    variant: str
    packages: tuple[str, ...] = ()
    is_peer: bool = True

    @abstractmethod
    def prepare(self, case: Case) -> None:
        """Make the files to be loaded, unless they are there. May take minutes."""

    @abstractmethod
    def load(self, case: Case, threads: int) -> Loaded:
        """Load what :meth:`prepare` made, to run on that many threads."""

    def missing_packages(self) -> list[str]:
        """Distributions that are not installed."""
        return [package for package in self.packages if not is_installed(package)]

    def least_cosine(self) -> float:
        """Below this cosine with torch's fp32 output a candidate computes something else, and its time means nothing."""
        return {FP32: 0.9999, INT8: 0.98}.get(self.variant, 0.5)


def is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
