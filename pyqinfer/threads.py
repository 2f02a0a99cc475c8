"""How many threads a session has where nobody says, and which CPUs it runs on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyqinfer import _core

_MOST = 8


def default_threads() -> int:
    """Give the number of threads by the first of these that says one.

    - ``PYQINFER_NUM_THREADS``
    - ``OMP_NUM_THREADS``, which Ray, Slurm and many containers set for every numeric library
    - the CPUs that the process may use, by its affinity and its cgroup's quota, without the slow ones of a hybrid CPU; at most 8

    Raises:
        ValueError: ``PYQINFER_NUM_THREADS`` is no number above 0.
    """
    text = os.environ.get("PYQINFER_NUM_THREADS")
    if text is not None:
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"PYQINFER_NUM_THREADS={text!r}: expected a number of threads >= 1")
        return int(text)
    # OpenMP allows a list, one number for each level of nesting, and ignores what it cannot read.
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdigit() and 1 <= int(first) <= 1024:
        return int(first)
    fast = fast_cpus(usable_cpus())
    return min(int(_core.cpu_info()["threads"]), len(fast) or _MOST, _MOST)


def usable_cpus() -> set[int]:
    """Give the numbers of the CPUs that this process may run on; none where the system does not say."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def fast_cpus(usable: Collection[int], system: Path = Path("/sys/devices")) -> set[int]:
    """Give the CPUs among ``usable`` that are not the slow ones of a hybrid CPU: layers would wait for the slowest thread.

    Args:
        usable: numbers of CPUs.
        system: where Linux describes them: ``cpu_core/cpus`` lists the performance cores of an Intel hybrid, ``cpu_capacity`` the speed of
            each core of an ARM one, of which those with less than half of the greatest are slow.

    Returns:
        All of ``usable`` where cores are alike, or where only slow ones may be used.
    """
    try:
        fast = set(usable) & _parse_list((system / "cpu_core" / "cpus").read_text())
    except (OSError, ValueError):
        capacities = {}
        for cpu in usable:
            try:
                capacities[cpu] = int((system / "system" / "cpu" / f"cpu{cpu}" / "cpu_capacity").read_text())
            except (OSError, ValueError):
                return set(usable)
        fast = {cpu for cpu, capacity in capacities.items() if 2 * capacity >= max(capacities.values())}
    return fast or set(usable)


def check_cpus(cpus: Collection[int]) -> frozenset[int]:
    """Give the CPUs as a set. Raises TypeError or ValueError for anything but numbers of CPUs that the process may use."""
    if isinstance(cpus, (str, bytes)) or not isinstance(cpus, Collection) or not all(type(cpu) is int for cpu in cpus):
        raise TypeError(f"cpus: expected a list of numbers such as [0, 1], got {cpus!r}")
    usable = usable_cpus()
    others = sorted(set(cpus) - usable)
    if others or not cpus:
        raise ValueError(f"cpus: expected some of {sorted(usable)}, which this process may use, got {sorted(cpus)}")
    return frozenset(cpus)


@contextmanager
def bound_to(cpus: Collection[int]) -> Iterator[None]:
    """A context in which the calling thread, and threads that it starts, run on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _parse_list(text: str) -> set[int]:
    """Linux's lists of CPUs, such as ``0-3,8``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus
