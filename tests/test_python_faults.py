"""Each allocation of Python's own fails once, for every call of the extension: an exception, never a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("_testcapi", reason="this Python has no way to make its allocations fail")

PROGRAM = """
import sys

import _testcapi
import numpy as np

from pyqinfer import _core

path, target = sys.argv[1:]
data = open(path, "rb").read()
model = _core.Model.from_bytes(data)
session = _core.Session(model, 1, "auto")
flag = _core.CancelFlag()
strided = np.zeros((5, 2), np.float32)[:, 0]
codes = np.zeros(100, np.int8)
stream = _core.pack_trits(codes)

calls = {
    "run": lambda: session.run({"x": strided}, []),
    "run with a flag": lambda: session.run({"x": strided}, [], 1 << 30, flag),
    "capture": lambda: session.run({"x": strided}, ["no such layer"]),
    "unknown name": lambda: session.run({"x": strided, "z": strided}, []),
    "wrong shape": lambda: session.run({"x": np.zeros((1, 1), np.float32)}, []),
    "wrong type": lambda: session.run({"x": 1}, []),
    "from_bytes": lambda: _core.Model.from_bytes(data),
    "not a model": lambda: _core.Model.from_bytes(data[:-1]),
    "save": lambda: model.save(target),
    "load": lambda: _core.Model.load(target),
    "Session": lambda: _core.Session(model, 2, "auto"),
    "CancelFlag": lambda: _core.CancelFlag(),
    "profile": lambda: session.profile({"x": strided}, 2),
    "layers": session.layers,
    "memory": session.memory,
    "infer_shapes": lambda: model.infer_shapes({"x": [5]}),
    "graph_json": lambda: model.graph_json,
    "constant": lambda: model.constant(0),
    "to_bytes": model.to_bytes,
    "pack_trits": lambda: _core.pack_trits(codes[::2]),
    "unpack_trits": lambda: _core.unpack_trits(stream, 100),
    "cpu_info": _core.cpu_info,
    "op_names": _core.op_names,
}
usual = {}
for name, call in calls.items():
    try:
        usual[name] = call() and None
    except Exception as error:
        usual[name] = type(error)
failures = 0
for name, call in calls.items():
    for n in range(300):
        try:
            _testcapi.set_nomemory(n, n + 1)
            try:
                call()
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            failures += 1
        except Exception as error:
            # pybind11 says TypeError where it could not convert an argument, and RuntimeError where it could not make a small object.
            said = "error_already_set" in str(error) or "Could not allocate" in str(error)
            known = said or isinstance(error, TypeError) or type(error) is usual[name]
            assert known, (name, n, repr(error))
print(failures)
"""


def test_every_call_survives_every_failed_allocation(tmp_path: Path) -> None:
    model = Path(__file__).parent.parent / "csrc" / "fuzz" / "corpus" / "container" / "tiny.pqi"
    arguments = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(model), str(tmp_path / "model.pqi")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
