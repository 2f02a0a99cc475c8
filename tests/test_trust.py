"""What SECURITY.md promises at the Python border: memory shortage, limits, interruption, exit, and the type of every error."""

from __future__ import annotations

import contextlib
import platform
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import chain, embedding

import pyqinfer as pq
from pyqinfer import _core

GOLDEN = Path(__file__).parent / "golden" / "v1.0-w8a8.pqi"


@pytest.fixture(scope="module")
def golden() -> pq.Model:
    return pq.load(GOLDEN)


@pytest.fixture(scope="module")
def session(golden: pq.Model) -> pq.Session:
    return pq.Session(golden, threads=1)


X = np.zeros((1, 3, 37, 29), np.float32)
TENSOR = torch.zeros(1, 3, 37, 29)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which may die."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=120
    )


# ---- memory


@pytest.mark.parametrize("kind", ["input", "constant", "output", "layers"])
# Holds H13.
def test_short_memory_raises_and_says_for_what(kind: str) -> None:
    program = """
        import json, os, resource, sys, numpy as np, pyqinfer as pq
        from pyqinfer import _core
        sys.path.insert(0, sys.argv[2])
        from small_models import chain
        session, x = pq.Session(chain(2), threads=1), np.zeros((25_000, 1000), np.float32)  # a value takes 100 MB
        session(x[:1])
        large = np.broadcast_to(np.float32(1), (1 << 20, 1000))
        graph = {"symbols": [], "quants": [], "constants": [{"name": "c", "dtype": "f32", "shape": [1 << 20, 1000]}], "values": [],
                 "nodes": [], "inputs": [], "outputs": [], "samples": []}
        calls = {
            "input": (200, lambda: session(large)),
            "constant": (200, lambda: _core.write_model(json.dumps(graph), [large], "test")),
            "output": (50, lambda: session(x)),
            "layers": (150, lambda: session(x)),
        }
        room, call = calls[sys.argv[1]]
        size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + room * 10**6,) * 2)
        try:
            call()
        except MemoryError as error:
            print(error)
    """
    done = python(program, kind, str(Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    expected = {
        "input": "input 'x': no memory for a copy in C order, 4194304000 bytes",
        "constant": "constant '0': no memory for a copy in C order, 4194304000 bytes",
        "output": "value 'layer1': no memory for an array of shape [25000, 1000], 100000000 bytes",
        "layers": "no memory for a run with these shapes: values between layers take ",
    }
    assert done.stdout.startswith(expected[kind]), done.stdout + done.stderr


# Holds B19.
def test_a_run_takes_no_more_than_max_memory(golden: pq.Model) -> None:
    limited = pq.Session(golden, threads=1, run_options=pq.RunOptions(max_memory=1 << 20))
    np.testing.assert_array_equal(limited(X), pq.Session(golden, threads=1)(X))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = np.broadcast_to(np.float32(1), (1 << 22, 3, 37, 29))  # a copy of it would take 54 GB
    with pytest.raises(MemoryError, match=r"a run with these shapes takes \d+ bytes, more than max_memory = 1048576; .* layer '"):
        limited(many)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10
    assert limited.run({"x": np.repeat(X, 64, 0)}, options=pq.RunOptions())  # in place of the session's


# ---- interruption


class Interrupted(Exception):
    pass


# Holds A18.
def test_a_signal_ends_a_run_between_layers() -> None:
    session, x = pq.Session(chain(2000), threads=1), np.ones((2000, 1000), np.float32)

    def interrupt(*_: Any) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            session(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert session(np.zeros((1, 1000), np.float32)).max() == 0  # the session is as before


def test_a_cancel_flag_ends_a_run_and_can_be_taken_back() -> None:
    flag = pq.CancelFlag()
    session, x = pq.Session(chain(2000), threads=2, run_options=pq.RunOptions(cancel=flag)), np.ones((2000, 1000), np.float32)
    threading.Timer(0.05, flag.set).start()
    with pytest.raises(pq.CancelledError, match="the run was cancelled before layer 'layer"):
        session(x)
    assert flag.is_set()
    with pytest.raises(pq.CancelledError, match="layer0"):
        session(x[:1])
    flag.clear()
    assert session(x[:1]).shape == (1, 1000)


@pytest.mark.parametrize(
    "call", ["session(x)", "pq.Session(model, threads=1)", "pq.load(path)", "model.save(path)", "session.native.profile({'x': x}, 3)"]
)
# Holds I7.
def test_the_process_ends_well_while_a_daemon_thread_runs(call: str, tmp_path: Path) -> None:
    program = f"""
        import sys, threading, time, numpy as np, pyqinfer as pq
        model = pq.load({str(GOLDEN)!r})
        path = sys.argv[1]
        model.save(path)
        session, x = pq.Session(model, threads=1), np.zeros((4, 3, 37, 29), np.float32)
        def loop():
            while True:
                {call}
        for _ in range(2):
            threading.Thread(target=loop, daemon=True).start()
        time.sleep(0.1)
    """
    for _ in range(3):
        done = python(program, str(tmp_path / "model.pqi"))
        assert done.returncode == 0, done.stderr


# ---- values that change


def test_indices_that_change_during_runs_are_never_read_outside_the_table() -> None:
    session, indices = pq.Session(embedding(), threads=1), np.zeros(100_000, np.int32)
    end, ran, refused = time.monotonic() + 1.5, 0, 0

    def change() -> None:
        while time.monotonic() < end:
            indices[-30_000:] = 10**8
            indices[-30_000:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    while thread.is_alive():
        try:
            assert (session(indices) == 1).all()
            ran += 1
        except ValueError:
            refused += 1
    assert ran
    assert refused


def test_codes_that_change_while_they_are_packed_harm_nothing() -> None:
    codes, stop = np.zeros(1 << 20, np.int8), threading.Event()

    def change() -> None:
        while not stop.is_set():
            codes[:] = 100
            codes[:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(200):
        with contextlib.suppress(ValueError):  # code 100 at some element
            assert (_core.unpack_trits(_core.pack_trits(codes), codes.size) == 0).all()
    stop.set()
    thread.join()


# ---- types of errors


BAD_RUNS: dict[str, tuple[Callable[[pq.Session], Any], type[Exception]]] = {
    "inputs None": (lambda s: s.run(None), TypeError),  # type: ignore[arg-type]
    "inputs are a number": (lambda s: s.run(3), TypeError),  # type: ignore[arg-type]
    "native inputs are a number": (lambda s: s.native.run(5, []), TypeError),  # type: ignore[arg-type]
    "half a surrogate pair as a name": (lambda s: s.run({"\ud800": X}), ValueError),
    "half a surrogate pair in capture": (lambda s: s.run({"x": X}, capture=["\ud800"]), ValueError),
    "capture of a number": (lambda s: s.run({"x": X}, capture=[3]), TypeError),  # type: ignore[list-item]
    "name is a number": (lambda s: s.run({1: X}), TypeError),  # type: ignore[dict-item]
    "complex tensor": (lambda s: s(TENSOR.to(torch.complex64).conj()), TypeError),
    "nested tensor": (lambda s: s(torch.nested.nested_tensor([TENSOR[0]])), TypeError),
    "sparse tensor": (lambda s: s(TENSOR.to_sparse()), TypeError),
    "bfloat16 tensor": (lambda s: s(TENSOR.bfloat16()), TypeError),
    "options of another type": (lambda s: pq.Session(s.model, run_options={}), TypeError),  # type: ignore[arg-type]
    "algorithm of another type": (lambda s: pq.Session(s.model, algorithm=3), TypeError),  # type: ignore[arg-type]
    "half a surrogate pair as isa": (lambda s: pq.Session(s.model, isa="\ud800"), ValueError),
    "max_memory 0": (lambda _: pq.RunOptions(max_memory=0), ValueError),
    "max_memory 2**70": (lambda _: pq.RunOptions(max_memory=2**70), ValueError),
    "max_memory of another type": (lambda _: pq.RunOptions(max_memory=1.5), TypeError),  # type: ignore[arg-type]
    "cancel of another type": (lambda _: pq.RunOptions(cancel=threading.Event()), TypeError),  # type: ignore[arg-type]
    "dimension 2**70": (lambda s: s.model.macs({"x": (2**70, 3, 37, 29)}), ValueError),
    "dimension is no integer": (lambda s: s.model.native.infer_shapes({"x": (1.5, 3, 37, 29)}), TypeError),  # type: ignore[dict-item]
    "shape None": (lambda s: s.model.native.infer_shapes({"x": None}), TypeError),  # type: ignore[dict-item]
    "shape is a text": (lambda s: s.model.native.infer_shapes({"x": "abcd"}), TypeError),  # type: ignore[dict-item]
    "shapes are a number": (lambda s: s.model.native.infer_shapes(7), TypeError),  # type: ignore[arg-type]
    "save to bytes": (lambda s: s.model.save(b"/tmp/x.pqi"), TypeError),  # type: ignore[arg-type]
    "save to None": (lambda s: s.model.save(None), TypeError),  # type: ignore[arg-type]
    "save with NUL": (lambda s: s.model.save("a\0b"), ValueError),
    "load of half a surrogate pair": (lambda _: pq.load("/tmp/\ud800"), ValueError),
    "load of bytes": (lambda _: pq.load(b"/tmp/x"), TypeError),  # type: ignore[arg-type]
    "graph with half a surrogate pair": (lambda _: _core.write_model('{"\ud800":1}', [], "test"), ValueError),
    "constant beyond the last": (lambda s: s.model.constant(10**9), IndexError),
}


@pytest.mark.parametrize("name", BAD_RUNS)
# Holds A4, A14.
def test_misuse_raises_the_documented_type(session: pq.Session, name: str) -> None:
    call, expected = BAD_RUNS[name]
    with pytest.raises(expected) as caught:
        call(session)
    assert str(caught.value)
    assert not isinstance(caught.value, RuntimeError)


def test_pending_negation_and_conjugation_are_carried_out(session: pq.Session) -> None:
    tensor = torch.randn(TENSOR.shape)
    np.testing.assert_array_equal(session(torch._neg_view(tensor)), session(-tensor))
    np.testing.assert_array_equal(session(torch.complex(tensor, tensor).conj().imag), session(-tensor))


METHODS: dict[Any, dict[str, tuple[Any, ...]]] = {
    _core.Model: {
        "save": ("/tmp/x",),
        "to_bytes": (),
        "constant": (0,),
        "constant_nbytes": (0,),
        "infer_shapes": ({},),
        "nbytes": (),
        "graph_json": (),
    },
    _core.Session: {"run": ({}, []), "layers": (), "profile": ({}, 1), "memory": (), "isa": (), "warning": (), "threads": ()},
    _core.CancelFlag: {"set": (), "clear": (), "is_set": ()},
}


def _core_member(thing: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    member = getattr(thing, name)
    return member(*arguments) if callable(member) else member


@pytest.mark.parametrize("kind", METHODS)
def test_an_object_that_was_not_made_has_nothing_to_read(kind: Any) -> None:
    names = {name for name in vars(kind) if not name.startswith("_") and not isinstance(vars(kind)[name], staticmethod)}
    assert names == set(METHODS[kind])
    for new in (kind.__new__, object.__new__):
        with pytest.raises(TypeError):
            new(kind)

    tried = []

    class Early(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            for name, arguments in METHODS[kind].items():
                with pytest.raises(TypeError):
                    _core_member(self, name, arguments)
                tried.append(name)
            with pytest.raises(TypeError):
                _core.Session(self, 1, "auto")

    with pytest.raises(TypeError, match="__init__"):  # it never called that of its class
        Early()
    assert tried == list(METHODS[kind])


# ---- the built library


def test_the_extension_is_hardened() -> None:
    def readelf(*options: str) -> str:
        return subprocess.run(["readelf", "-W", *options, _core.__file__], capture_output=True, text=True, check=True).stdout

    dynamic, headers, symbols = readelf("-d"), readelf("-l"), readelf("--dyn-syms").splitlines()
    assert "BIND_NOW" in dynamic
    assert "GNU_RELRO" in headers
    (stack,) = (line for line in headers.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    defined = [
        line.split()[7] for line in symbols if len(line.split()) > 7 and line.split()[0].rstrip(":").isdigit() and line.split()[6] != "UND"
    ]
    assert [name for name in defined if name != "PyInit__core"] == []
    if platform.machine() == "x86_64":
        assert "x86 feature: SHSTK" in readelf("-n")
        assert Path(_core.__file__).read_bytes().count(b"\xf3\x0f\x1e\xfa") > 500  # endbr64, where indirect calls land
    assert str(Path(__file__).parent.parent).encode() not in Path(_core.__file__).read_bytes()  # the place of a build changes no byte
    imported = {line.split()[7].split("@")[0] for line in symbols if len(line.split()) > 7 and line.split()[6] == "UND"}
    assert "__stack_chk_fail" in imported
