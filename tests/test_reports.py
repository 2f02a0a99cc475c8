"""The names in CSV and JSON: those of docs/reports.md, which says what they mean."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command import invoke
from torch import nn

import pyqinfer as pq

ROOT = Path(__file__).resolve().parent.parent
MODULE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
"""
COMMANDS = {
    "inspect": ("inspect", "net.pqi"),
    "executed": ("inspect", "net.pqi", "--executed"),
    "size": ("inspect", "net.pqi", "--size"),
    "profile": ("profile", "net.pqi", "--repeat", "2"),
    "bench": ("bench", "nets.py:net", "net.pqi", "--min-time", "0.02", "--batch", "2", "--concurrency", "2"),
    "compare": ("compare", "nets.py:net", "net.pqi"),
    "verify": ("verify", "net.pqi"),
    "pareto": ("pareto", "nets.py:net", "--input", "1x3x8x8", "--eval", "labelled.npz", "--methods", "ptq", "--grid", "8/8"),
}


def documented() -> set[str]:
    lines = [line for line in (ROOT / "docs" / "reports.md").read_text().splitlines() if line.startswith("| `")]
    return {name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The JSON of each command."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    (folder / "nets.py").write_text(MODULE)
    np.save(folder / "x.npy", rng.normal(size=(8, 3, 8, 8)).astype(np.float32))
    np.savez(folder / "labelled.npz", x=rng.normal(size=(16, 3, 8, 8)).astype(np.float32), y=rng.integers(0, 5, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = ("quantize", "nets.py:net", "--input", "1x3x8x8", "--calib", "x.npy", "--out", "net.pqi")
        code, _, err = invoke(*made)
        assert code == 0, err
        found = {}
        for name, arguments in COMMANDS.items():
            code, out, err = invoke(*arguments, "-o", "json")
            assert code == 0, err
            found[name] = json.loads(out)
        found["csv"] = {"text": invoke("profile", "net.pqi", "-o", "csv")[1]}
        found["model"] = {"macs": pq.load("net.pqi").macs()}
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_name_is_documented(outputs: dict[str, dict[str, object]], command: str) -> None:
    assert set(outputs[command]) == {"title", "facts", "rows", "notes"}
    assert {key for row in outputs[command]["rows"] for key in row} <= documented()


def test_every_documented_name_is_there(outputs: dict[str, dict[str, object]]) -> None:
    assert documented() == {key for command in COMMANDS for row in outputs[command]["rows"] for key in row}


def test_numbers_are_raw(outputs: dict[str, dict[str, object]]) -> None:
    assert sum(row["macs"] or 0 for row in outputs["inspect"]["rows"]) == outputs["model"]["macs"]


def test_csv_has_the_names_of_the_columns(outputs: dict[str, dict[str, object]]) -> None:
    lines = list(csv.reader(io.StringIO(str(outputs["csv"]["text"]))))
    assert lines[0] == ["name", "op", "executed_as", "p50_ms", "share_percent", "macs_per_s", "reason"]
    assert len(lines) == 1 + len(outputs["profile"]["rows"])


def test_a_layer_in_float_says_why() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.Softmax(1)).eval()
    x = torch.randn(2, 3, 8, 8)
    graph = pq.quantize(net, pq.PTQ(smooth=False), example_inputs=x, calibration=x)
    reasons = {layer["op"]: layer["reason"] for layer in pq.Session(pq.convert(graph, example_inputs=x)).layers()}
    assert reasons["unary"] == "in float: its input is not quantized"
    assert reasons["softmax"].startswith("in float: the op has no form for codes")
    assert "in float" not in reasons["conv2d"] + reasons["quantize"]
