"""The command line, driven as a user drives it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import invoke

import pyqinfer as pq

MODEL = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nets.py, images.npy and the quantized net.pqi that the command made of them."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "nets.py").write_text(MODEL)
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(40, 3, 12, 12)).astype(np.float32))
    code, out, err = invoke(
        "quantize", f"{folder}/nets.py:net", "--input", "1x3x12x12", "--calib", folder / "images.npy", "--out", folder / "net.pqi"
    )
    assert code == 0, err
    assert "(100.0 % of MACs)" in out
    return folder


def test_convert_writes_a_float_file(work: Path) -> None:
    code, out, _ = invoke("convert", f"{work}/nets.py:net", "--input", "1x3x12x12", "--out", work / "float.pqi")
    assert code == 0
    assert "(0.0 % of MACs)" in out
    assert pq.load(work / "float.pqi").integer_share() == 0.0


def test_run_writes_the_outputs(work: Path) -> None:
    images = np.load(work / "images.npy")
    code, out, _ = invoke("run", work / "net.pqi", work / "images.npy", "--out", work / "y.npz", "--threads", "2")
    assert (code, out.split(": ")[1]) == (0, "float32 40x5\n")
    (name,) = pq.load(work / "net.pqi").outputs
    assert np.array_equal(np.load(work / "y.npz")[name], pq.Session(pq.load(work / "net.pqi"))(images))


def test_verify_runs_the_stored_samples(work: Path) -> None:
    code, out, _ = invoke("verify", work / "net.pqi", "--isa", "reference")
    assert code == 0
    assert "identical" in out


@pytest.mark.parametrize("style", ["table", "md", "csv", "json"])
def test_inspect_prints_every_style(work: Path, style: str) -> None:
    code, out, _ = invoke("inspect", work / "net.pqi", "-o", style)
    assert code == 0
    if style == "json":
        rows = json.loads(out)["rows"]
        assert sum(row["macs"] or 0 for row in rows) == pytest.approx(pq.load(work / "net.pqi").macs())
    assert "conv2d" in out


def test_inspect_shows_sizes_and_algorithms(work: Path) -> None:
    assert f"{(work / 'net.pqi').stat().st_size:,}" in invoke("inspect", work / "net.pqi", "--size")[1]
    against = invoke("inspect", work / "net.pqi", "--size", "--against", work / "images.npy")[1]
    assert f"smaller than the float network's file ({(work / 'images.npy').stat().st_size:,} bytes)" in against
    assert "reference" in invoke("inspect", work / "net.pqi", "--executed", "--isa", "reference")[1]


def test_bench_runs_the_grid_of_threads(work: Path) -> None:
    code, out, err = invoke(
        "bench", f"{work}/nets.py:net", work / "net.pqi", "--input", "1x3x12x12", "--threads", "1,2", "--min-time", "0.05", "-o", "json"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["name"], row["threads"]) for row in rows] == [("net", 1), ("net.pqi", 1), ("net", 2), ("net.pqi", 2)]
    assert all(row["p50_ms"] > 0 for row in rows)


def test_profile_lists_every_layer(work: Path) -> None:
    code, out, _ = invoke("profile", work / "net.pqi", "--repeat", "2", "-o", "json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)["rows"]] == [node["name"] for node in pq.load(work / "net.pqi").graph["nodes"]]


def test_quantize_leaves_sizes_open(work: Path) -> None:
    out = work / "open.pqi"
    code, _, err = invoke(
        "quantize", f"{work}/nets.py:net", "--input", "1x3x12x12", "--calib", work / "images.npy", "--out", out, "--dynamic-size"
    )
    assert code == 0, err
    assert pq.Session(out)(np.zeros((2, 3, 20, 16), np.float32)).shape == (2, 5)


def test_run_keeps_the_name_of_its_output(work: Path) -> None:
    code, _, err = invoke("run", f"{work}/nets.py:net", work / "images.npy", "--out", work / "y.npy")
    assert code == 0, err
    assert np.load(work / "y.npy").shape == (40, 5)
    assert not (work / "y.npy.npz").exists()


def test_pareto_begins_no_row_after_its_time(work: Path) -> None:
    np.savez(work / "labelled.npz", x=np.load(work / "images.npy"), y=np.arange(40) % 5)
    common = ("pareto", f"{work}/nets.py:net", "--input", "1x3x12x12", "--eval", work / "labelled.npz", "--methods", "ptq")
    code, out, err = invoke(*common, "--out", work / "par", "--time", "0.001s", "-o", "json")
    assert code == 0 or "nothing to draw" in err
    code, out, err = invoke(*common, "--out", work / "par", "--time", "10m", "--grid", "8/8", "-o", "json")
    assert code == 0, err
    assert "ptq 8/8: " in err
    assert all(row["status"] == "ok" for row in json.loads(out)["rows"])
    assert "expected a number with its unit" in invoke(*common, "--time", "soon")[2]


OMPQ = ("--method", "ompq", "--budget-bits", "5", "--candidates", "4/8,6/8,8/8", "--keep", "0=4/8")


def test_bits_under_a_budget_are_shown_written_edited_and_used(work: Path) -> None:
    common = (f"{work}/nets.py:net", "--input", "1x3x12x12", "--calib", work / "images.npy")
    code, out, err = invoke("quantize", *common, *OMPQ, "--out", work / "mixed.pqi", "--bits-out", work / "bits.json")
    assert code == 0, err
    assert "bits per weight (budget: 5.000 bits per weight)" in out
    assert "OMPQ: " in err
    bits = pq.BitConfig.load(work / "bits.json")
    assert str(bits["0"]) == "4/8"
    running = {c.name: f"{c.weight_bits}/{c.act_bits}" for c in pq.load(work / "mixed.pqi").layer_costs() if c.macs}
    assert running == {name: str(found) for name, found in bits.items()}
    pq.BitConfig({**bits, "4": "3/6"}).save(work / "edited.json")
    code, out, err = invoke(
        "quantize", *common, "--bits-in", work / "edited.json", "--out", work / "edited.pqi", "--bits-out", work / "x.json"
    )
    assert code == 0, err
    assert str(pq.BitConfig.load(work / "x.json")["4"]) == "3/6"


def test_zeroq_needs_no_data(work: Path) -> None:
    common = (f"{work}/nets.py:net", "--input", "1x3x12x12", "--method", "zeroq")
    code, out, err = invoke("quantize", *common, "--budget-bops", "0.05", "--out", work / "zeroq.pqi")
    assert code == 0, err
    assert "of the float network's BOPs (budget: 0.05000" in out
    assert "noise" not in err
    assert pq.load(work / "zeroq.pqi").integer_share() == 1.0


def test_with_json_only_the_result_is_on_stdout(work: Path) -> None:
    common = (f"{work}/nets.py:net", "--input", "1x3x12x12", "--calib", work / "images.npy")
    code, out, err = invoke("quantize", *common, *OMPQ, "--out", work / "mixed.pqi", "-o", "json")
    assert code == 0
    assert json.loads(out)["title"] == "Layers"
    assert '"optimal": true' in err


def test_compare_fails_below_the_wanted_sqnr(work: Path) -> None:
    arguments = ("compare", f"{work}/nets.py:net", work / "net.pqi", "--data", work / "images.npy", "--min-sqnr")
    assert invoke(*arguments, "15")[0] == 0
    assert invoke(*arguments, "150")[0] == 1


def test_doctor_and_config_tell_of_the_installation() -> None:
    assert pq.cpu_info()["best"] in invoke("doctor")[1]
    assert invoke("config", "--cmakedir")[1].strip() == pq.get_cmake_dir()
    assert Path(pq.get_include(), "pyqinfer", "pyqinfer.h").is_file()


def test_the_help_of_quantize_names_every_observer() -> None:
    from pyqinfer.cli.quantize import OBSERVER_NAMES
    from pyqinfer.quantization.observers import OBSERVERS

    assert tuple(OBSERVERS) == OBSERVER_NAMES


def test_version_is_the_packages() -> None:
    assert invoke("--version")[1].strip() == f"pyqinfer {pq.__version__}"


MISTAKES = [
    (("inspect", "{work}/missing.pqi"), "missing.pqi"),
    (("verify", "{work}/images.npy"), "expected a .pqi file"),
    (("convert", "model.pt", "--input", "1x3x8x8", "--out", "{work}/a.pqi"), "never opened"),
    (("convert", "{work}/nets.py:nett", "--input", "1x3x8x8", "--out", "{work}/a.pqi"), "has no 'nett'"),
    (("convert", "{work}/nets.py:net", "--out", "{work}/a.pqi"), "--input"),
    (("convert", "{work}/nets.py:net", "--input", "1,3,8,8", "--out", "{work}/a.pqi"), "joined by x"),
    (("bench", "{work}/net.pqi", "--threads", "one"), "--threads 'one'"),
    (("run", "{work}/net.pqi", "{work}/nets.py", "--out", "{work}/y.npz"), ""),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--bits", "9/8", "--out", "{work}/a.pqi"), "9"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--keep", "fc", "--out", "{work}/a.pqi"), "LAYER=BITS"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--method", "gptq", "--out", "{work}/a.pqi"), "expected ptq"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--budget-bits", "4", "--out", "{work}/a.pqi"), "takes no budget"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--method", "ompq", "--out", "{work}/a.pqi"), "give --budget-bops"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", *OMPQ, "--bits", "4/4", "--out", "{work}/a.pqi"), "no use for --bits"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--candidates", "4/4", "--out", "{work}/a.pqi"), "are for a budget"),
    (("quantize", "{work}/nets.py:net", "--input", "1x3x12x12", "--bits-in", "{work}/no.json", "--out", "{work}/a.pqi"), "no.json"),
    (("verify", "{work}/net.pqi", "--isa", "sse9"), "sse9"),
    (("bench", "{work}/net.pqi", "--input", "100000x3x12x12", "--max-memory", "1"), "more than --max-memory (1048576 bytes)"),
    (("profile", "{work}/net.pqi", "--input", "500x3x12x12", "--max-memory", "1"), "more than max_memory = 1048576"),
]


@pytest.mark.parametrize(("arguments", "text"), MISTAKES, ids=[" ".join(m[0][:1]) + f" {i}" for i, m in enumerate(MISTAKES)])
def test_mistakes_give_one_line_and_exit_code_1(work: Path, arguments: tuple[str, ...], text: str) -> None:
    code, _, err = invoke(*(argument.format(work=work) for argument in arguments))
    assert code == 1
    assert err.startswith("error: ") or "\nerror: " in err
    assert text in err
    assert not (work / "a.pqi").exists()


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pyqinfer", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pyqinfer ")
