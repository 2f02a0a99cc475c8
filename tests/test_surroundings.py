"""Sessions in odd surroundings: objects in circles, shapes that no layer takes, files that go away, threads, processes and environments."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import chain, model

import pyqinfer as pq

GOLDEN = Path(__file__).parent / "golden" / "v1.0-w8a8.pqi"
X = np.random.default_rng(0).standard_normal((2, 3, 37, 29), np.float32)


@pytest.fixture(scope="module")
def session() -> pq.Session:
    return pq.Session(pq.load(GOLDEN), threads=2)


def output(expected: bytes) -> int:
    """Load and run in another process; 0 if the bytes are those."""
    return int(pq.Session(pq.load(GOLDEN), threads=2)(X).tobytes() != expected)


# Holds A8, B10.
def test_arrays_of_odd_kinds_are_refused(session: pq.Session) -> None:
    with pytest.raises(TypeError, match="expected dtype float32"):
        session(np.zeros((1, 3, 37, 29), [("a", "f4")]))
    with pytest.raises(ValueError, match="expected shape"):
        session(np.zeros((1,) * 40, np.float32))


# Holds A17.
def test_objects_in_circles_are_freed() -> None:
    class Holder:
        def __init__(self) -> None:
            self.session = pq.Session(chain(1), threads=1)
            self.me = self

    gone = [weakref.ref(Holder()) for _ in range(100)]
    gc.collect()
    assert [ref() for ref in gone] == [None] * 100


# Holds B8, B18.
def test_images_that_a_window_does_not_fit_are_refused() -> None:
    pool = {"kernel": [5, 5], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "ceil_mode": 0}
    node = {"op": "max_pool2d", "name": "y", "inputs": ["x"], "attrs": pool}
    small = pq.Session(model({"x": ("f32", ["N", "H", "W", 3])}, [node]), threads=1)
    assert small(np.zeros((1, 5, 5, 3), np.float32)).shape == (1, 1, 1, 3)
    for size in ((4, 5), (5, 4), (0, 5), (5, 0), (0, 0)):
        with pytest.raises(ValueError, match="y"):
            small(np.zeros((1, *size, 3), np.float32))


# Holds B17, H9.
def test_inputs_and_models_may_lie_in_files_that_go_away(session: pq.Session, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert session(mapped).tobytes() == session(X).tobytes()
    path = tmp_path / "model.pqi"
    path.write_bytes(GOLDEN.read_bytes())
    loaded = pq.load(path)
    path.write_bytes(b"\xff" * 100)
    path.unlink()
    assert pq.Session(loaded, threads=1)(X).tobytes() == session(X).tobytes()
    assert loaded.to_bytes() == GOLDEN.read_bytes()


def python(program: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(pq.__file__).parent.parent), **options.pop("env", {})}
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=environment, **options)


RUN = f"""
import numpy as np, pyqinfer as pq
model = pq.load({str(GOLDEN)!r})
y = pq.Session(model, threads=2)(np.load({{x!r}}))
"""


# Holds H14, H15, H16, H20.
@pytest.mark.parametrize(
    ("before", "after", "environment"),
    [
        ("import os, pathlib\npathlib.Path('gone').mkdir()\nos.chdir('gone')\nos.rmdir('../gone')\n", "", {}),
        ("import os\nos.close(0); os.close(1)\n", "", {}),
        ("", "", {"HOME": "/nonexistent", "LC_ALL": "de_DE.UTF-8"}),
        (
            "import locale\nfor name in ('tr_TR.UTF-8', 'C'):\n try: locale.setlocale(locale.LC_ALL, name)\n except locale.Error: pass\n",
            "",
            {},
        ),
    ],
    ids=["no working directory", "no standard streams", "no home, another language", "another locale"],
)
def test_the_environment_does_not_matter(session: pq.Session, tmp_path: Path, before: str, after: str, environment: dict[str, str]) -> None:
    np.save(tmp_path / "x.npy", X)
    end = f"\nopen({str(tmp_path / 'y')!r}, 'wb').write(y.tobytes())\n" + after
    done = python(before + RUN.format(x=str(tmp_path / "x.npy")) + end, tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "y").read_bytes() == session(X).tobytes()


# Holds I3.
def test_sessions_come_and_go_in_many_threads(session: pq.Session) -> None:
    results: list[bytes] = []

    def storm() -> None:
        results.extend(pq.Session(pq.load(GOLDEN), threads=2)(X).tobytes() for _ in range(30))

    threads = [threading.Thread(target=storm) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {session(X).tobytes()}
    assert len(results) == 240


# Holds I5.
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind_give_the_same_bits(session: pq.Session, method: str) -> None:
    expected = session(X).tobytes()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(output, [expected] * 4) == [0] * 4


# Holds I8.
def test_one_cpu_and_many_threads_give_the_same_bits(session: pq.Session) -> None:
    expected, cpus = session(X).tobytes(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        assert pq.Session(session.model, threads=33)(X).tobytes() == expected
    finally:
        os.sched_setaffinity(0, cpus)
    assert pq.Session(session.model, threads=64)(X).tobytes() == expected


# Holds I9.
def test_torch_and_numpy_compute_beside_sessions(session: pq.Session) -> None:
    expected, stop = session(X).tobytes(), threading.Event()

    def others() -> None:
        a, b = torch.randn(200, 200), np.ones((200, 200), np.float32)
        while not stop.is_set():
            a = torch.mm(a, a).clamp(-1, 1)
            b = np.clip(b @ b, -1, 1)

    thread = threading.Thread(target=others)
    thread.start()
    results = {session(X).tobytes() for _ in range(50)}
    stop.set()
    thread.join()
    assert results == {expected}
