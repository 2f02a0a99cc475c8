"""Sessions as users misuse them: wrong kinds, dtypes, shapes, names; odd memory layouts and values give the same bits."""

from __future__ import annotations

import copy
import json
import os
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyqinfer as pq
from pyqinfer import _core

C, OUT = 3, 8


def make_model(input_shape: list[int | str]) -> pq.Model:
    """quantize -> conv 3x3 (relu) -> mean -> linear, with random codes."""
    rng = np.random.default_rng(0)
    constants = {
        "activation_scales": np.array([0.02, 0.05, 0.05], np.float32),
        "conv.weight": rng.integers(-127, 128, (OUT, 3, 3, C), dtype=np.int8),
        "conv.scale": rng.uniform(0.001, 0.01, OUT).astype(np.float32),
        "conv.bias": rng.normal(size=OUT).astype(np.float32),
        "fc.weight": rng.integers(-127, 128, (5, OUT), dtype=np.int8),
        "fc.scale": rng.uniform(0.001, 0.01, 5).astype(np.float32),
    }
    kinds = {np.dtype(np.float32): "f32", np.dtype(np.int8): "code"}
    ids = {name: i for i, name in enumerate(constants)}
    no_activation = {"activation": "none", "lo": 0, "hi": 0}
    conv_attrs = {
        "stride": [1, 1],
        "padding": [1, 1, 1, 1],
        "dilation": [1, 1],
        "groups": 1,
        "step": 1,
        "activation": "relu",
        "lo": 0,
        "hi": 0,
    }
    graph = {
        "symbols": sorted({d for d in input_shape if isinstance(d, str)}),
        "quants": [{"bits": 8, "zero_point": z, "qmin": 0, "qmax": 255} for z in (128, 0, 0)],
        "constants": [
            {"name": name, "dtype": kinds[array.dtype], "shape": list(array.shape)}
            | ({"bits": 8, "packing": "none"} if array.dtype == np.int8 else {})
            for name, array in constants.items()
        ],
        "values": [
            {"name": "x", "dtype": "f32", "shape": input_shape},
            {"name": "x_q", "dtype": "u8", "quant": 0},
            {"name": "conv_q", "dtype": "u8", "quant": 1},
            {"name": "mean_q", "dtype": "u8", "quant": 2},
            {"name": "logits", "dtype": "f32"},
        ],
        "nodes": [
            {"op": "quantize", "name": "in", "inputs": [0], "outputs": [1], "constants": {}, "attrs": {"layout": "to_nhwc"}},
            {
                "op": "conv2d",
                "name": "conv",
                "inputs": [1],
                "outputs": [2],
                "constants": {"weight": ids["conv.weight"], "scale": ids["conv.scale"], "bias": ids["conv.bias"]},
                "attrs": conv_attrs,
            },
            {"op": "mean", "name": "pool", "inputs": [2], "outputs": [3], "constants": {}, "attrs": {"keepdim": 0}},
            {
                "op": "linear",
                "name": "fc",
                "inputs": [3],
                "outputs": [4],
                "constants": {"weight": ids["fc.weight"], "scale": ids["fc.scale"]},
                "attrs": {"step": 1, **no_activation},
            },
        ],
        "inputs": [{"name": "x", "value": 0}],
        "outputs": [{"name": "logits", "value": 4}],
        "samples": [],
    }
    return pq.Model.from_bytes(_core.write_model(json.dumps(graph), list(constants.values()), "test"))


@pytest.fixture(scope="module")
def model() -> pq.Model:
    return make_model(["N", C, "H", "W"])


@pytest.fixture(scope="module")
def session(model: pq.Model) -> pq.Session:
    return pq.Session(model, threads=2)


@pytest.fixture(scope="module")
def x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(4, C, 9, 7)).astype(np.float32)


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


WRONG_CALLS: list[tuple[str, Callable[[pq.Session, Any], Any], type[Exception], str]] = [
    ("no inputs", lambda s, x: s(), ValueError, "expected 1 inputs"),
    ("two inputs", lambda s, x: s(x, x), ValueError, "got 2"),
    ("unknown name", lambda s, x: s.run({"image": x}), ValueError, "image"),
    ("extra name", lambda s, x: s.run({"x": x, "y": x}), ValueError, "y"),
    ("none", lambda s, x: s(None), TypeError, "NoneType"),
    ("list", lambda s, x: s(x.tolist()), TypeError, "list"),
    ("text", lambda s, x: s("image"), TypeError, "str"),
    ("object array", lambda s, x: s(x.astype(object)), TypeError, "object"),
    ("masked array", lambda s, x: s(np.ma.masked_less(x, 0)), TypeError, "masked"),
    ("float64", lambda s, x: s(x.astype(np.float64)), TypeError, "float64"),
    ("uint8", lambda s, x: s(x.astype(np.uint8)), TypeError, "uint8"),
    ("big-endian", lambda s, x: s(x.astype(">f4")), TypeError, "float32"),
    ("rank 3", lambda s, x: s(x[0]), ValueError, r"\[3, 9, 7\]"),
    ("rank 5", lambda s, x: s(x[None]), ValueError, r"\[1, 4, 3, 9, 7\]"),
    ("scalar", lambda s, x: s(np.array(1.0, np.float32)), ValueError, "x"),
    ("channels", lambda s, x: s(x[:, :2]), ValueError, "2"),
    ("huge broadcast", lambda s, x: s(np.broadcast_to(x[:1], (2**36, C, 9, 7))), ValueError, "x"),
    ("unknown capture", lambda s, x: s.run({"x": x}, capture=["conv7"]), ValueError, "conv7"),
]


@pytest.mark.parametrize(("call", "error", "text"), [row[1:] for row in WRONG_CALLS], ids=[row[0] for row in WRONG_CALLS])
# Holds A1, A2, A3, A4, A5, A6, A13, B1, B2, B4, B5, B6, B9, B14.
def test_wrong_calls_raise_and_say_what_was_wrong(
    session: pq.Session, x: Any, call: Callable[[pq.Session, Any], Any], error: type[Exception], text: str
) -> None:
    before = session(x)
    with pytest.raises(error, match=text):
        call(session, x)
    assert same(session(x), before)


WRONG_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"threads": 0}, ValueError, "0"),
    ({"threads": -1}, ValueError, "-1"),
    ({"threads": 10**9}, ValueError, "1000000000"),
    ({"threads": "4"}, TypeError, "str"),
    ({"threads": True}, TypeError, "bool"),
    ({"isa": "sse9"}, ValueError, "sse9"),
    ({"isa": "AVX2"}, ValueError, "AVX2"),
]


@pytest.mark.parametrize(("options", "error", "text"), WRONG_OPTIONS, ids=[str(row[0]) for row in WRONG_OPTIONS])
# Holds A15.
def test_wrong_options_raise(model: pq.Model, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pq.Session(model, **options)


# Holds I11.
def test_an_isa_that_this_cpu_lacks_is_unsupported_and_never_run(model: pq.Model) -> None:
    lacking = {"reference", "avx2", "avx512vnni", "neon", "dotprod", "i8mm", "amx"} - set(pq.cpu_info()["isas"])
    assert lacking  # no CPU has both x86 and ARM instructions
    for isa in sorted(lacking):
        with pytest.raises(pq.UnsupportedError, match=isa):
            pq.Session(model, isa=isa)


def test_kernels_that_are_wrong_on_this_machine_are_warned_of_once(model: pq.Model, x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnABrokenMachine(_core.Session):
        warning = "on this machine the kernel 'table' for instruction set 'avx2' gives wrong results, so 'reference' is used"

    monkeypatch.setattr(_core, "Session", OnABrokenMachine)
    with pytest.warns(RuntimeWarning, match="the kernel 'table'") as caught:
        session = pq.Session(model)
    session(x)
    assert len(caught) == 1


def test_a_session_on_this_machine_warns_of_nothing(model: pq.Model) -> None:
    assert pq.cpu_info()["warning"] == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pq.Session(model)


def test_the_environment_chooses_the_isa_and_threads(model: pq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYQINFER_ISA", "reference")
    monkeypatch.setenv("PYQINFER_NUM_THREADS", "3")
    session = pq.Session(model)
    assert (session.isa, session.threads) == ("reference", 3)
    monkeypatch.setenv("PYQINFER_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="PYQINFER_NUM_THREADS='many'"):
        pq.Session(model)


# Holds I2.
def test_every_isa_and_thread_count_gives_the_same_bits(model: pq.Model, x: Any) -> None:
    expected = pq.Session(model, threads=1, isa="reference")(x)
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 2, 3, 4, 5, 16):
            assert same(pq.Session(model, threads=threads, isa=isa)(x), expected), (isa, threads)


def misaligned(x: Any) -> Any:
    raw = np.zeros(x.nbytes + 64, np.uint8)
    view = raw[4 + 1 : 4 + 1 + x.nbytes].view(np.float32).reshape(x.shape)
    view[...] = x
    return view


def read_only(x: Any) -> Any:
    copied = x.copy()
    copied.flags.writeable = False
    return copied


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "fortran order": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "reversed twice": lambda x: x[:, ::-1].copy()[:, ::-1],
    "misaligned": misaligned,
    "read-only": read_only,
    "subclass": lambda x: x.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
# Holds B11, B12, B13, B15, B16.
def test_memory_layout_does_not_change_the_bits(session: pq.Session, x: Any, layout: Callable[[Any], Any]) -> None:
    assert same(session(layout(x)), session(x))


def test_splitting_the_batch_does_not_change_the_bits(session: pq.Session, x: Any) -> None:
    assert same(np.concatenate([session(x[i : i + 1]) for i in range(len(x))]), session(x))


# Holds B7.
def test_an_empty_batch_gives_an_empty_result(session: pq.Session, x: Any) -> None:
    assert session(x[:0]).shape == (0, 5)


VALUES = {
    "infinities saturate": (np.inf, 3.4e38),
    "negative infinity saturates": (-np.inf, -3.4e38),
    "NaN is the zero point": (np.nan, 0.0),
    "signed zeros are equal": (-0.0, 0.0),
    "denormals are zero steps": (1e-45, 0.0),
}


@pytest.mark.parametrize(("special", "equivalent"), VALUES.values(), ids=VALUES.keys())
# Holds C1, C2, C3, C4, C5.
def test_special_values(model: pq.Model, x: Any, special: float, equivalent: float) -> None:
    for isa in pq.cpu_info()["isas"]:
        session = pq.Session(model, threads=1, isa=isa)
        a, b = x.copy(), x.copy()
        a[0, 0], b[0, 0] = special, equivalent
        assert same(session(a), session(b)), isa


def test_capture_returns_a_layers_output_beside_the_models(session: pq.Session, x: Any) -> None:
    result = session.run({"x": x}, capture=["conv", "pool"])
    assert set(result) == {"logits", "conv", "pool"}
    assert (result["conv"].dtype, result["conv"].shape) == (np.uint8, (4, 9, 7, OUT))
    assert same(result["logits"], session(x))
    scale = np.float32(0.05)
    assert np.array_equal(session.dequantize("conv", result["conv"]), result["conv"].astype(np.float32) * scale)


def test_outputs_are_fresh_arrays(session: pq.Session, x: Any) -> None:
    first = session(x)
    kept = first.copy()
    session(x * 2)
    assert same(first, kept)


# Holds A7.
def test_torch_in_torch_out(session: pq.Session, x: Any) -> None:
    torch = pytest.importorskip("torch")
    result = session(torch.from_numpy(x))
    assert isinstance(result, torch.Tensor)
    assert same(result.numpy(), session(x))


# Holds I1.
def test_many_threads_share_one_session(session: pq.Session, x: Any) -> None:
    inputs = [x * (i + 1) for i in range(8)]
    expected = [session(value) for value in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not same(session(inputs[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
# Holds I4.
def test_a_forked_child_runs_with_the_same_bits(session: pq.Session, x: Any) -> None:
    expected = session(x)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if same(session(x), expected) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert same(session(x), expected)


# Holds A12.
def test_models_are_not_pickled_or_copied(model: pq.Model) -> None:
    with pytest.raises(TypeError, match="save it with"):
        pickle.dumps(model)
    with pytest.raises(TypeError, match="save it with"):
        copy.deepcopy(model)


def test_a_symbol_that_stands_twice_must_be_one_number() -> None:
    session = pq.Session(make_model(["N", C, "S", "S"]))
    assert session(np.zeros((1, C, 6, 6), np.float32)).shape == (1, 5)
    with pytest.raises(ValueError, match="S"):
        session(np.zeros((1, C, 6, 7), np.float32))


@pytest.mark.parametrize(
    ("path", "error"),
    [(3, TypeError), ("", OSError), ("no/such/file.pqi", OSError), ("/", OSError), ("a" * 5000, OSError), ("a\0b", (ValueError, OSError))],
)
# Holds A14, H7.
def test_load_refuses_what_is_no_file(path: Any, error: Any) -> None:
    with pytest.raises(error):
        pq.load(path)


# Holds H10, H18.
def test_save_and_load_give_the_same_file(model: pq.Model, tmp_path: Path) -> None:
    path = tmp_path / "modèle.pqi"
    model.save(path)
    model.save(path)
    assert path.read_bytes() == model.to_bytes()
    assert pq.load(path).to_bytes() == model.to_bytes()
    assert os.listdir(tmp_path) == [path.name]


def test_save_to_a_bad_place_raises_and_leaves_nothing(model: pq.Model, tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "missing" / "x.pqi"):
        with pytest.raises(OSError):
            model.save(target)
    assert os.listdir(tmp_path) == []


def test_sizes_add_up_to_the_file(model: pq.Model) -> None:
    rows = {str(row["name"]): row for row in model.size_report().rows}
    file = rows.pop("file")
    assert file["bytes"] == model.nbytes == sum(int(row["bytes"] or 0) for row in rows.values())


def test_summary_counts_macs_for_the_given_shape(model: pq.Model) -> None:
    shapes = {"x": (2, C, 9, 7)}
    macs = 2 * 9 * 7 * OUT * 9 * C + 2 * 5 * OUT
    assert (model.macs(shapes), model.bops(shapes)) == (macs, macs * 64)
    with pytest.raises(ValueError, match="shapes="):
        model.macs()
    with pytest.raises(ValueError, match="no such input: y"):
        model.macs({"y": (1,)})
