"""The race against other engines: protocol, statistics, tables and plumbing. Needs none of the other engines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_ROOT = str(Path(__file__).parents[1])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)  # benchmarks/ is not an installed package; child processes get this path too

from benchmarks.peers.__main__ import main  # noqa: E402
from benchmarks.peers.cache import artifact  # noqa: E402
from benchmarks.peers.candidate import Candidate, Loaded  # noqa: E402
from benchmarks.peers.case import Case  # noqa: E402
from benchmarks.peers.catalogue import candidates  # noqa: E402
from benchmarks.peers.contest import prepare  # noqa: E402
from benchmarks.peers.race import Protocol, Try, race, run_once, timing  # noqa: E402
from benchmarks.peers.results import Race, Row, save  # noqa: E402
from benchmarks.peers.worker import Block, CandidateError, time_block, worker  # noqa: E402

QUICK = Protocol(rounds=2, pause=0.0, tries=3)


def blocks_of(log: list[str], name: str, ms: float = 1.0) -> Callable[[], list[float]]:
    def time_one() -> list[float]:
        log.append(name)
        return [ms] * 3

    return time_one


def peaks(*values: float | None) -> Callable[[], float | None]:
    given = iter(values)
    return lambda: next(given)


# The protocol.


def test_candidates_take_turns_in_every_round() -> None:
    log: list[str] = []
    run_once({name: blocks_of(log, name) for name in "ABC"}, 3, 0.0, lambda: None)
    assert "".join(log) == "ABCABCABC"


def test_a_candidate_that_fails_is_left_out_of_later_rounds_and_has_no_times() -> None:
    log: list[str] = []
    calls = iter(range(9))

    def fails_in_the_second_round() -> list[float]:
        log.append("B")
        if next(calls) == 1:
            raise CandidateError("block: it broke")
        return [1.0]

    done = run_once({"A": blocks_of(log, "A"), "B": fails_in_the_second_round}, 4, 0.0, lambda: None)
    assert "".join(log) == "ABABAA"
    assert (sorted(done.blocks), dict(done.failures)) == (["A"], {"B": "block: it broke"})


@pytest.mark.parametrize(
    ("measured", "tries", "steady"),
    [
        ([100, 100], 1, True),
        ([100, 97], 1, True),
        ([97, 100], 1, True),
        ([100, 96.9, 100, 101], 2, True),
        ([100, 90, 100, 90, 100, 90], 3, False),
        ([None, None], 1, True),
    ],
)
def test_a_race_is_repeated_until_the_peaks_agree_within_three_percent(measured: list[float | None], tries: int, steady: bool) -> None:
    done = race({"A": blocks_of([], "A")}, peaks(*measured), QUICK)
    assert (len(done), done[-1].steady(QUICK.tolerance)) == (tries, steady)


def test_a_failure_in_an_unsteady_race_is_remembered_in_the_next() -> None:
    log: list[str] = []

    def broken() -> list[float]:
        log.append("B")
        raise CandidateError("dead")

    done = race({"A": blocks_of(log, "A"), "B": broken}, peaks(100, 50, 100, 100), QUICK)
    assert "".join(log) == "ABAAA"
    assert (sorted(done[-1].blocks), dict(done[-1].failures)) == (["A"], {"B": "dead"})


def test_a_block_discards_its_first_calls_and_is_long_enough_in_calls_and_in_time() -> None:
    calls: list[int] = []
    loaded = Loaded(lambda: calls.append(1) or np.zeros(1, np.float32), {})
    assert len(time_block(loaded, Block(calls=4, seconds=0.0, discarded=3))) == 4
    assert len(calls) == 7
    assert len(time_block(loaded, Block(calls=1, seconds=0.02, discarded=0))) > 1


def test_statistics_are_over_all_calls_with_a_median_per_block() -> None:
    result = timing([[1.0, 2.0, 3.0], [10.0, 11.0, 12.0]])
    assert (result.median, result.fastest, result.calls, result.block_medians) == (6.5, 1.0, 6, [2.0, 11.0])
    assert result.p90 == pytest.approx(11.5)
    with pytest.raises(ValueError, match="no calls"):
        timing([[]])


# The table and the JSON.


def row(name: str, variant: str, ms: float, *, peer: bool = True, status: str = "ok") -> Row:
    return Row(name, variant, peer, status, timing([[ms]]), 0.999, {"threads": 1})


ROWS = [
    row("slow fp32", "fp32", 40.0),
    row("fast fp32", "fp32", 30.0),
    row("wrong int8", "int8", 1.0, status="wrong output: cosine below 0.98"),
    row("peer int8", "int8", 8.0),
    Row("absent", "int8", True, "not installed: pip install absent"),
    row("ours fp32", "fp32", 33.0, peer=False),
    row("ours int8", "int8", 6.0, peer=False),
    row("ours 4/4", "4/4", 4.0, peer=False),
]


def contest(*tries: Try, undisturbed: float | None = 201.0) -> Race:
    return Race("net", [(1, 3, 224, 224)], 1, 800_000_000, 0.5, undisturbed, ROWS, tries or [Try(199.0, 200.0, {}, {})])


def test_the_fastest_peer_is_right_and_not_pyqinfer() -> None:
    assert [getattr(contest().fastest_peer(v), "name", None) for v in ("fp32", "int8", "4/4")] == ["fast fp32", "peer int8", None]


def test_the_table_has_ratios_to_the_fastest_peers_and_the_share_of_the_peak() -> None:
    cells = {str(r["name"]): r for r in contest().report(QUICK, "dot").rows}
    assert [cells["ours int8"][key] for key in ("to_int8", "to_fp32", "gmacs")] == pytest.approx([0.75, 0.2, 800 / 6])
    assert cells["peer int8"]["of_peak"] == pytest.approx(50.0)  # 100 GMAC/s of the better peak
    assert cells["fast fp32"]["of_peak"] is None
    assert "p50_ms" not in cells["absent"]
    assert [cells[name]["status"] for name in ("ours int8", "absent", "wrong int8")] == ["ok", "not installed", "wrong output"]


@pytest.mark.parametrize(
    "words",
    [
        "ours int8: 0.75 x the time of peer int8, the fastest int8 peer",
        "ours 4/4: 0.50 x the time of peer int8",
        "ours fp32: 1.10 x the time of fast fp32, the fastest fp32 peer",
        "absent: not installed: pip install absent",
        "wrong int8: wrong output: cosine below 0.98",
        "dot-product peak (dot): 199.0 GMAC/s before, 200.0 after; tries 1",
    ],
)
def test_the_printed_table_says(words: str) -> None:
    assert words in contest().report(QUICK, "dot").table()


def test_an_unsteady_race_says_so() -> None:
    text = contest(Try(200.0, 150.0, {}, {})).report(QUICK, "dot").table()
    assert "UNSTEADY" in text
    assert "UNSTEADY" not in contest().report(QUICK, "dot").table()


def test_a_race_on_a_machine_that_is_steadily_busy_says_so() -> None:
    assert "BUSY: 235.0 GMAC/s" in contest(undisturbed=235.0).report(QUICK, "dot").table()
    assert "BUSY" not in contest().report(QUICK, "dot").table()


def test_without_a_peak_the_table_says_that_steadiness_is_not_checked() -> None:
    assert "not checked" in contest(Try(None, None, {}, {})).report(QUICK, "").table()


def test_the_json_holds_conditions_protocol_and_every_candidate(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    save(path, {"machine": {"cpu": "X"}}, [contest()], QUICK)
    content = json.loads(path.read_text())
    assert (content["format"], content["machine"], content["protocol"]["rounds"]) == ("pyqinfer-peers/1", {"cpu": "X"}, 2)
    only = content["races"][0]
    assert only["fastest_peer"] == {"fp32": "fast fp32", "int8": "peer int8"}
    assert [c["name"] for c in only["candidates"]] == [r.name for r in ROWS]
    assert only["candidates"][3]["timing"]["median"] == 8.0
    assert only["candidates"][4]["timing"] is None
    assert os.listdir(path.parent) == ["out.json"]


# Files that are kept.


def test_files_are_made_once_and_again_when_their_origin_changes(tmp_path: Path) -> None:
    made: list[str] = []

    def get(name: str, version: str) -> Path:
        def make(folder: Path) -> None:
            made.append(f"{name} {version}")
            (folder / "file").write_text(version)

        return artifact(tmp_path, name, {"version": version}, make) / "file"

    sibling = get("net-int8", "1")
    first = get("net", "1")
    assert get("net", "1") == first
    assert get("net", "2").read_text() == "2"
    assert made == ["net-int8 1", "net 1", "net 2"]
    assert not first.exists()
    assert sibling.exists()


def test_files_half_made_are_not_kept(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        artifact(tmp_path, "net", {}, make)
    assert list(tmp_path.iterdir()) == []


# Candidates and their processes.


def test_each_variant_brings_its_peers_and_pyqinfer() -> None:
    names = [candidate.name for candidate in candidates(["fp32", "int8", "4/4", "t/8"])]
    assert {"ncnn", "ONNX Runtime", "OpenVINO", "torch eager", "torch inductor", "pyqinfer fp32"} <= set(names)
    assert {"ONNX Runtime u8s8", "OpenVINO NNCF", "OpenVINO on u8s8 ONNX", "pyqinfer int8"} <= set(names)
    assert names[-2:] == ["pyqinfer 4/4", "pyqinfer t/8"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("variants", "skip"), [(["fp64"], []), (["9/9"], []), (["float"], []), (["4/32"], []), (["int8"], ["nobody"])])
def test_unknown_variants_and_names_are_refused(variants: list[str], skip: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected|no such candidate"):
        candidates(variants, skip)


class Broken(Candidate):
    """Raises while preparing, or takes its whole process down."""

    variant = "int8"

    def __init__(self, how: str) -> None:
        self.name = how

    def prepare(self, case: Case) -> None:
        print("a line for the log", flush=True)
        if self.name == "dies":
            os._exit(7)
        raise RuntimeError("no such operator\nand more")

    def load(self, case: Case, threads: int) -> Loaded:
        raise NotImplementedError


class Absent(Broken):
    packages = ("pyqinfer-no-such-engine", "numpy")


@pytest.mark.parametrize(("how", "message"), [("raises", "RuntimeError: no such operator;"), ("dies", "the process died (exit code 7)")])
def test_a_candidate_that_breaks_breaks_only_its_own_process(how: str, message: str, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "broken.log"
    with worker(Broken(how), Case("resnet20", 32, 0, tmp_path), log) as process, pytest.raises(CandidateError) as error:
        process.prepare()
    assert message in str(error.value)
    assert "a line for the log" in log.read_text()


def test_a_candidate_without_its_packages_is_told_how_to_install_them(tmp_path: Path) -> None:
    reasons = prepare([Absent("absent")], Case("resnet20", 32, 0, tmp_path), lambda stage, done, total: None)
    assert reasons == {"absent": "not installed: pip install pyqinfer-no-such-engine"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [([1.0, 2.0, 2.0], 1.0), ([2.0, 4.0, 4.0], 1.0), ([-1.0, -2.0, -2.0], -1.0), ([np.nan, 0, 0], 0.0), ([1.0], 0.0), ([0.0] * 3, 0.0)],
)
def test_cosine_of_outputs(output: list[float], expected: float, tmp_path: Path) -> None:
    case = Case("resnet20", 32, 0, tmp_path)
    case.__dict__["folder"] = tmp_path  # in place of a network's
    np.savez(tmp_path / "expected.npz", np.array([[1.0, 2.0, 2.0]], np.float32))
    assert case.cosine(np.array([output], np.float32)) == pytest.approx(expected)


def test_a_whole_race_on_a_small_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raced = ["torch eager", "pyqinfer int8"]
    skipped = ",".join(c.name for c in candidates(["fp32", "int8"]) if c.name not in raced)
    out = tmp_path / "out.json"
    options = ["--models", "resnet20", "--size", "32", "--rounds", "1", "--calls", "2", "--tries", "1", "--skip", skipped]
    assert main([*options, "--json", str(out), "--root", str(tmp_path / "files")]) == 0
    assert "resnet20, 1x3x32x32, threads 1" in capsys.readouterr().out
    only = json.loads(out.read_text())["races"][0]
    assert [(c["name"], c["status"]) for c in only["candidates"]] == [(name, "ok") for name in raced]
    assert all(c["timing"]["calls"] >= 2 and c["cosine"] > 0.98 for c in only["candidates"])
    assert only["candidates"][1]["settings"]["integer_share"] == 1.0
    assert only["macs"] == 40_813_184


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.inner, self.last = nn.Embedding(50, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, words, values):
        y = self.last(torch.relu(self.inner(self.words(words) + values)))
        return {"y": y, "mean": y.mean(1)}

def net():
    torch.manual_seed(0)
    return Net(), (torch.randint(0, 50, (1, 6)), torch.randn(1, 6, 16))
"""


def test_a_network_of_a_users_own_file_with_several_inputs_and_outputs_is_raced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    raced = ["torch eager", "pyqinfer fp32", "pyqinfer int8"]
    skipped = ",".join(c.name for c in candidates(["fp32", "int8"]) if c.name not in raced)
    out = tmp_path / "out.json"
    options = ["--models", f"{tmp_path}/own.py:net", "--rounds", "1", "--calls", "2", "--tries", "1", "--skip", skipped]
    assert main([*options, "--json", str(out), "--root", str(tmp_path / "files")]) == 0
    assert "1x6 and 1x6x16, threads 1" in capsys.readouterr().out
    only = json.loads(out.read_text())["races"][0]
    assert [(c["name"], c["status"]) for c in only["candidates"]] == [(name, "ok") for name in raced]
    shares = only["candidates"][2]["settings"]["percent_of_time"]
    assert "linear" in shares
    assert sum(shares.values()) == pytest.approx(100, abs=1)


def test_a_network_that_cannot_be_built_is_named_and_the_others_are_raced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text("def net(): raise OSError('no weights')")
    skipped = ",".join(c.name for c in candidates(["int8"]) if c.name != "pyqinfer int8")
    options = ["--variants", "int8", "--size", "32", "--rounds", "1", "--calls", "1", "--tries", "1", "--skip", skipped]
    assert main(["--models", f"{tmp_path}/own.py:net,resnet20", *options, "--root", str(tmp_path / "files")]) == 0
    printed = capsys.readouterr()
    assert "own.py:net: OSError: no weights" in printed.err
    assert "resnet20, 1x3x32x32" in printed.out


@pytest.mark.parametrize("options", [["--models", "nothing"], ["--models", "no.py:net"], ["--variants", "fp64"], ["--skip", "nobody"]])
def test_wrong_options_are_refused_with_a_sentence(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*options, "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
