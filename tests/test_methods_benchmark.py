"""The methods experiment: what it compares, what it says of the rows, and a small run of the whole."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import benchmarks.methods.__main__ as command
from benchmarks.methods.claims import Claim, claims
from benchmarks.methods.document import fill
from benchmarks.methods.entries import QUICK, fixed, full
from benchmarks.methods.networks import GLYPHS, Network, folder_network
from benchmarks.methods.peers import Peer
from benchmarks.methods.results import claims_report, network_result, save
from pyqinfer import zoo
from pyqinfer.study.evaluate import Accuracy, pack_hits
from pyqinfer.study.grid import Entry
from pyqinfer.study.labelled import Arrays
from pyqinfer.study.rows import Row


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def small_network() -> Network:
    rng = np.random.default_rng(0)
    data = Arrays(rng.normal(size=(40, 1, 9, 9)).astype(np.float32), rng.integers(0, 3, 40))
    calibration = [torch.from_numpy(data.images[:16])]
    return Network("small", "A small network", net(), calibration, data, None, {"model": "net"})


# ---- what is compared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [False, True])
def test_every_row_has_a_name_of_its_own(dense: bool) -> None:
    entries = full(["auto", "avx2"], dense)
    assert len({entry.name for entry in entries}) == len({entry.slug for entry in entries}) == len(entries)
    assert set(QUICK) <= {*entries}


def test_the_full_experiment_has_what_the_document_promises() -> None:
    names = {entry.name for entry in full(["auto"], dense=False)}
    wanted = ["fp32", "ptq 8/8", "ptq 6/6", "ptq 4/8", "ptq 4/4 learned rounding", "zeroq 8/8", "ompq bits=4", "zeroq bops=2%"]
    assert {*wanted, "zeroq latency=70%", "ompq latency=70%"} <= names


def test_networks_of_the_experiment_are_in_the_zoo() -> None:
    assert set(GLYPHS) <= set(zoo.trained_names())


# ---- what the rows say ----------------------------------------------------------------------------------------------


def row(name: str, top1: float, **fields: object) -> Row:
    return Row(name, name.split(" ")[0], accuracy=Accuracy(10_000, top1, 10_000, top1), **fields)  # type: ignore[arg-type]


def said(found: list[Claim], words: str) -> Claim:
    (claim,) = [claim for claim in found if words in claim.text]
    return claim


@pytest.mark.parametrize(("int8", "holds"), [(95.9, True), (95.81, True), (95.79, False)])
def test_eight_bits_may_lose_a_fifth_of_a_point(int8: float, holds: bool) -> None:
    claim = said(claims("net", [row("fp32", 96.0), row("ptq 8/8", int8)], []), "less that of fp32")
    assert (claim.value, claim.holds) == (pytest.approx(int8 - 96.0), holds)


def test_a_rival_may_be_ahead_by_the_standard_error() -> None:
    rows = [row("ptq 8/8", 95.0), row("NNCF 8/8 (OpenVINO)", 95.2), row("ONNX Runtime 8/8", 95.3)]
    found = claims("net", rows, [])  # the standard error of 10,000 images at 95 % is 0.218 points
    assert (said(found, "NNCF").holds, said(found, "ONNX").holds) == (True, False)


def test_agreement_is_that_of_the_worst_row() -> None:
    bad = replace(row("ptq 4/4", 90.0), accuracy=Accuracy(10_000, 90.0, 10_000, 90.1, 20, 2.5))
    found = claims("net", [row("ptq 8/8", 95.0), bad], [])
    assert (said(found, "alike").value, said(found, "alike").holds) == (pytest.approx(99.8), False)
    assert (said(found, "margin").value, said(found, "margin").holds) == (2.5, False)


def test_a_latency_budget_is_held_against_the_measured_time_and_the_best_bops_budget_as_fast() -> None:
    rows = [
        row("zeroq latency=70%", 95.0, budget={"latency_ms": 1.0}, latency_ms={"auto": 1.05}),
        row("zeroq latency=70% on avx2", 95.0, budget={"latency_ms": 1.0}, latency_ms={"auto": 9.0, "avx2": 1.2}),
        row("zeroq bops=2%", 94.0, budget={"bops": 0.02}, latency_ms={"auto": 1.06, "avx2": 1.21}),
        row("zeroq bops=4%", 96.0, budget={"bops": 0.04}, latency_ms={"auto": 1.2, "avx2": 3.0}),
    ]
    found = claims("net", rows, ["auto", "avx2"])
    over = [claim for claim in found if "above the budget" in claim.text]
    assert [(claim.value, claim.holds) for claim in over] == [(pytest.approx(5.0), True), (pytest.approx(20.0), False)]
    gains = [claim for claim in found if "less that of zeroq bops=2%" in claim.text]
    assert [(claim.value, claim.holds) for claim in gains] == [(pytest.approx(1.0), True)] * 2


@pytest.mark.parametrize(("network", "holds"), [("resnet20_glyphs", True), ("resnet20_wide_glyphs", False)])
def test_fewer_bits_must_gain_time_on_the_wide_network_alone(network: str, holds: bool) -> None:
    rows = [row("ptq 8/8", 95.0, latency_ms={"avx2": 1.0}), row("qat 4/4", 95.0, latency_ms={"auto": 0.1, "avx2": 1.01})]
    claim = said(claims(network, rows, ["auto", "avx2"]), "time of qat 4/4")
    assert (claim.text, claim.value, claim.holds) == ("time of qat 4/4 over that of ptq 8/8 (avx2)", pytest.approx(1.01), holds)


def test_rows_that_failed_say_nothing() -> None:
    assert claims("net", [row("fp32", 96.0), Row("ptq 8/8", "ptq", status="broken")], ["auto"])[0].text.startswith("images that torch")


def test_the_check_list_names_what_does_not_hold() -> None:
    text = claims_report([Claim("net", "a less b", -1.0, "points", False), Claim("net", "c", 1.0, "%", True)]).table()
    assert "NO" in text
    assert "yes" in text


# ---- files ----------------------------------------------------------------------------------------------------------


def test_the_json_keeps_networks_of_earlier_runs(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for name in ("a", "b"):
        result = network_result(name.upper(), {"model": "net"}, {"cpu": "X"}, [row("fp32", 96.0)], [])
        save(path, {"versions": {"torch": "2"}}, {name: result})
    content = json.loads(path.read_text())
    assert (content["format"], content["versions"]) == ("pyqinfer-methods/1", {"torch": "2"})
    assert {name: network["title"] for name, network in content["networks"].items()} == {"a": "A", "b": "B"}
    assert Row.from_dict(content["networks"]["a"]["rows"][0]) == row("fp32", 96.0)


class Absent(Peer):
    name = "Absent 8/8"
    method = "absent"
    packages = ("pyqinfer-no-such-engine",)

    def quantize(self, network: Network, folder: Path) -> list[Path]:
        raise NotImplementedError

    open = quantize  # type: ignore[assignment]


class Copying(Peer):
    """Runs the float network: a quantizer that loses nothing."""

    name = "Copying 8/8"
    method = "copying"
    packages = ("torch",)
    runs = 0

    def quantize(self, network: Network, folder: Path) -> list[Path]:
        type(self).runs += 1
        (folder / "model").write_bytes(bytes(100))
        return [folder / "model"]

    def open(self, folder: Path, threads: int, shape: tuple[int, ...] | None):  # type: ignore[no-untyped-def]
        model = net()
        return lambda x: model(torch.from_numpy(x)).detach().numpy()


def test_a_peer_without_its_packages_is_a_row_that_says_how_to_get_them(tmp_path: Path) -> None:
    made = Absent().row(small_network(), tmp_path, 1, lambda what, done, total: None)
    assert made.status == "not installed: pip install pyqinfer-no-such-engine"


def test_a_peer_is_quantized_once(tmp_path: Path) -> None:
    network, peer = small_network(), Copying()
    rows = [peer.row(network, tmp_path, 1, lambda what, done, total: None) for _ in range(2)]
    assert rows[0] == rows[1]
    assert (rows[0].bytes, Copying.runs) == (100, 1)
    with torch.inference_mode():
        right = network.model(torch.from_numpy(network.data.images)).argmax(1).numpy() == network.data.labels  # type: ignore[attr-defined]
    assert rows[0].accuracy == Accuracy(40, 100 * float(right.mean()), hits=pack_hits(right))


# ---- the document ---------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


def test_blocks_of_the_document_are_written_from_the_results() -> None:
    rows = [row("fp32", 96.0, weight_bits=32.0, act_bits=32.0, bops=2 * 10**9, bytes=4000, latency_ms={"auto": 0.5})]
    found = [Claim("net", "a less b", -1.0, "points", False), Claim("net", "a over b (auto)", 1.0, "times", True)]
    result = network_result("Net", {}, {"isa": "avx2"}, [*rows, Row("zeroq 8/8", "zeroq", status="no BatchNorm")], found)
    text = "before\n<!-- rows: net -->\nold\n<!-- end -->\n<!-- claims: net -->\n<!-- end -->\nafter\n"
    filled = fill(text, {"networks": {"net": result}})
    assert "| fp32 | 32.00/32.00 | 96.00 | 10,000 of 10,000 |  | 2.000 | 4 | 0.500 |" in filled
    assert "ms (avx2)" in filled
    assert "zeroq 8/8: no BatchNorm" in filled
    assert "| a less b | -1.00 points |  | **no** |" in filled
    assert "| a over b (avx2) | 1.00 times |  | yes |" in filled
    assert "old" not in filled
    assert (filled.startswith("before\n"), filled.endswith("after\n")) == (True, True)
    assert fill(filled, {"networks": {"net": result}}) == filled


def test_a_block_of_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="block of other"):
        fill("<!-- rows: other -->\n<!-- end -->", {"networks": {"net": {}}})


def test_the_documents_figures_are_those_of_the_results() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    (path,) = set(re.findall(r"benchmarks/results/[\d-]+-methods\.json", text))
    assert fill(text, json.loads((ROOT / path).read_text(encoding="utf-8"))) == text


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_a_small_run_writes_tables_json_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "_networks", lambda options: [small_network()])
    monkeypatch.setattr(command, "QUICK", (Entry("fp32"), fixed("ptq", "8/8")))
    monkeypatch.setattr(command, "PEERS", (Absent(), Copying()))
    assert command.main(["--quick", "--out", str(tmp_path), "--isa", "auto,reference"]) == 0
    printed = capsys.readouterr().out
    assert "A small network" in printed
    assert "less that of fp32" in printed
    rows = json.loads((tmp_path / "results.json").read_text())["networks"]["small"]["rows"]
    assert [r["name"] for r in rows] == ["fp32", "ptq 8/8", "Absent 8/8", "Copying 8/8"]
    assert set(rows[1]["latency_ms"]) == {"auto", "reference"}
    assert set(rows[3]["latency_ms"]) == {"auto"}
    assert (tmp_path / "small.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"), [(["--networks", "nothing"], "'nothing'"), (["--data", "."], "--model"), (["--data", ".", "--model", "x"], "x")]
)
def test_wrong_options_are_refused_with_a_sentence(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(options) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_classes_takes_the_place_of_the_glyphs(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "nets.py").write_text("from torch import nn\ndef color():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n")
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (12, 12), (40 * i, 0, 0)).save(tmp_path / "val" / name / f"{i}.png")
    network = folder_network(f"{tmp_path}/nets.py:color", tmp_path / "val", 8, None, 4)
    assert (network.name, len(network.data), sum(len(batch) for batch in network.calibration)) == ("color", 6, 4)
    assert network.example[0].shape == (1, 3, 8, 8)
    assert network.record["data"]["classes"] == 2


def test_weights_are_a_file_or_what_the_callable_takes(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    source = """
from torch import nn

def net(weights=None):
    layer = nn.Linear(192, 2)
    if weights is not None:
        nn.init.constant_(layer.bias, float(weights))
    return nn.Sequential(nn.Flatten(), layer)
"""
    (tmp_path / "nets.py").write_text(source)
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (12, 12)).save(tmp_path / "val" / name / "0.png")
    kept = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    torch.save(kept.state_dict(), tmp_path / "kept.pt")
    of_file, named = (
        folder_network(f"{tmp_path}/nets.py:net", tmp_path / "val", 8, None, 2, weights).model.state_dict()["1.bias"]
        for weights in (str(tmp_path / "kept.pt"), "7")
    )
    assert torch.equal(of_file, kept[1].bias)
    assert named.tolist() == [7.0, 7.0]
