"""How many threads a session takes by default, and the CPUs that it is told to run on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pyqinfer as pq
from pyqinfer.threads import default_threads, fast_cpus, usable_cpus


@pytest.fixture(scope="module")
def model() -> pq.Model:
    torch.manual_seed(0)
    return pq.convert(nn.Conv2d(3, 8, 3).eval(), example_inputs=torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("own", "openmp", "threads"),
    [("3", "5", 3), (None, "5", 5), (None, "4,2", 4), (None, "many", None), (None, "0", None), (None, None, None)],
)
def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch, own: str | None, openmp: str | None, threads: int | None) -> None:
    for name, value in {"PYQINFER_NUM_THREADS": own, "OMP_NUM_THREADS": openmp}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    expected = min(pq.cpu_info()["threads"], len(fast_cpus(usable_cpus())), 8) if threads is None else threads
    assert default_threads() == expected


def test_performance_cores_of_an_intel_hybrid(tmp_path: Path) -> None:
    (tmp_path / "cpu_core").mkdir()
    (tmp_path / "cpu_core" / "cpus").write_text("0-3,6\n")
    assert fast_cpus(range(10), tmp_path) == {0, 1, 2, 3, 6}
    assert fast_cpus({3, 7}, tmp_path) == {3}
    assert fast_cpus({7, 8}, tmp_path) == {7, 8}, "slow cores are better than none"


def test_fast_cores_of_an_arm_hybrid(tmp_path: Path) -> None:
    for cpu, capacity in enumerate((300, 300, 1024, 900)):
        folder = tmp_path / "system" / "cpu" / f"cpu{cpu}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    assert fast_cpus(range(4), tmp_path) == {2, 3}
    assert fast_cpus(range(5), tmp_path) == set(range(5)), "of a core that is not described nothing is known"


def test_cores_that_are_alike_are_all_fast(tmp_path: Path) -> None:
    assert fast_cpus({0, 5}, tmp_path) == {0, 5}


def test_a_session_runs_on_its_cpus_and_gives_the_callers_back(model: pq.Model) -> None:
    cpu = min(usable_cpus())
    before = os.sched_getaffinity(0)
    session = pq.Session(model, threads=2, cpus=[cpu])
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    assert np.array_equal(session(x), pq.Session(model)(x))
    assert os.sched_getaffinity(0) == before
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    assert any(os.sched_getaffinity(task) == {cpu} for task in tasks if task != os.getpid()) or before == {cpu}
    assert pq.Session(model, cpus=sorted(before)).threads == len(before)


@pytest.mark.parametrize(
    ("cpus", "error", "text"),
    [
        ("0", TypeError, "a list of numbers"),
        ([0.5], TypeError, "a list of numbers"),
        ([], ValueError, "some of"),
        ([10**6], ValueError, "got"),
    ],
)
def test_cpus_that_are_none_are_refused(model: pq.Model, cpus: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pq.Session(model, cpus=cpus)  # type: ignore[arg-type]
