"""``pyqinfer bench --bits``: what each width costs and buys on one network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from pyqinfer.cli.app import app
from pyqinfer.study.bits_grid import bits_grid, draw, peer_times

EXAMPLES = (torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 256, 10)
    ).eval()


@pytest.fixture(scope="module")
def report():
    return bits_grid(net(), EXAMPLES, ["4/4", "t/4"], [EXAMPLES], min_time=0.05)


def test_every_width_and_8_8_have_a_row(report):
    assert [row["name"] for row in report.rows] == ["8/8", "4/4", "t/4"]
    assert report.rows[0]["speedup"] == 1.0
    assert all(row["p50_ms"] > 0 for row in report.rows)


def test_bops_follow_the_bits_of_the_middle_layer(report):
    ends, middle = 16 * 16 * 16 * 27 + 10 * 32 * 256, 16 * 16 * 32 * 16 * 9
    for row, bits in zip(report.rows, (64, 16, 8), strict=True):
        assert row["bops"] == pytest.approx(64 * ends + bits * middle)


def test_zeros_are_left_out_of_the_second_count(report):
    eight, _, ternary = report.rows
    assert 0.9 < eight["sparse_bops"] / eight["bops"] <= 1
    assert ternary["sparse_bops"] < ternary["bops"] * 0.99, "a good part of ternary codes are zero"


def test_file_shrinks_with_the_bits(report):
    sizes = [row["file_bytes"] for row in report.rows]
    assert sizes == sorted(sizes, reverse=True)


def test_pruning_is_an_axis_beside_bits():
    report = bits_grid(net(), EXAMPLES, ["t/4"], [EXAMPLES], min_time=0.02, zeros=[0.0, 0.9])
    assert [row["name"] for row in report.rows] == ["8/8", "t/4", "t/4, 90 % pruned"]
    plain, pruned = report.rows[1:]
    middle, ends = 32 * 16 * 9, 16 * 27 + 10 * 32 * 256
    assert pruned["zeros_percent"] >= 100 * 0.9 * middle / (middle + ends)
    assert pruned["zeros_percent"] > plain["zeros_percent"]
    assert pruned["sparse_bops"] < plain["sparse_bops"] <= plain["bops"] == pruned["bops"]


def peers_file(folder: Path) -> Path:
    row = {"variant": "int8", "is_peer": True, "status": "ok", "timing": {"median": 3.5}}
    rows = [{"name": "A", **row}, {"name": "B", **row, "status": "failed"}, {"name": "C", **row, "is_peer": False}]
    path = folder / "peers.json"
    path.write_text(json.dumps({"races": [{"model": "net", "threads": 1, "candidates": rows}]}))
    return path


def test_peers_are_the_other_engines_that_ran(tmp_path: Path):
    assert peer_times(peers_file(tmp_path), "net", 1) == {"A": 3.5}
    with pytest.raises(ValueError, match="2 thread"):
        peer_times(peers_file(tmp_path), "net", 2)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json"):
        peer_times(tmp_path / "other.json", "net", 1)


def test_picture_has_points_and_lines(report, tmp_path: Path):
    from PIL import Image

    draw(report, tmp_path / "with.png", {"A": 100.0})
    draw(report, tmp_path / "without.png")
    with_line, without = (np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("with.png", "without.png"))
    assert with_line.shape == without.shape
    assert (with_line != without).any()


def test_command_prints_the_grid_and_writes_the_picture(tmp_path: Path):
    source = tmp_path / "nets.py"
    source.write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), "
        "nn.Linear(8 * 144, 4)).eval()\n"
    )
    arguments = ["bench", f"{source}:net", "--input", "1x3x16x16", "--bits", "4/4", "--min-time", "0.05", "-o", "json"]
    picture = tmp_path / "bits.png"
    result = CliRunner().invoke(app, [*arguments, "--plot", str(picture), "--peers", str(peers_file(tmp_path))])
    assert result.exit_code == 0, result.output
    assert picture.stat().st_size > 1000
    result = CliRunner().invoke(app, [*arguments, "--zeros", "0,80"])
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in json.loads(result.stdout)["rows"]] == ["8/8", "4/4", "4/4, 80 % pruned"]
    assert CliRunner().invoke(app, [*arguments, "--zeros", "100"]).exit_code != 0
    failed = CliRunner().invoke(app, ["bench", f"{source}:net", "--input", "1x3x16x16", "--plot", str(picture)])
    assert failed.exit_code != 0
