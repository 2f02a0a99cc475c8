"""Grids of methods on a user's network: what is compared, measured, kept and drawn; labelled data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import pyqinfer as pq
from pyqinfer.cli.app import app
from pyqinfer.study.evaluate import Accuracy, discordant, evaluate, pack_hits
from pyqinfer.study.grid import Entry, Limit, grid, parse_limit
from pyqinfer.study.labelled import Arrays, ClassFolder, load_labelled
from pyqinfer.study.pareto import INT8, Study, run_grid
from pyqinfer.study.pareto_report import draw, frontier, study_report
from pyqinfer.study.rows import Row, read_row, write_row

# ---- what is compared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "budget"),
    [
        ("bops=0.02", Limit("bops", 0.02), {"bops": 0.02}),
        ("bops=2%", Limit("bops", 0.02), {"bops": 0.02}),
        ("size = 0.15", Limit("size", 0.15), {"size_mb": 0.15}),
        ("bits=4", Limit("bits", 4.0), {"avg_weight_bits": 4.0}),
        ("latency=1.5", Limit("latency", 1.5), {"latency_ms": 1.5}),
        ("latency=70%", Limit("latency", 0.7, relative=True), {"latency_ms": 1.4}),
    ],
)
def test_limits_are_read_from_words(text: str, expected: Limit, budget: dict[str, float]) -> None:
    assert parse_limit(text) == expected
    assert expected.budget(int8_ms=2.0).limits == pytest.approx(budget)
    assert parse_limit(str(expected)) == expected


@pytest.mark.parametrize("text", ["bops", "bops=", "bops=x", "bops=-1", "bits=4%", "size=10%", "time=3", "bops=nan", "latency=inf"])
def test_words_that_are_no_limit_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected bops=2%"):
        parse_limit(text)


def test_a_grid_has_every_method_at_all_bits_and_the_allocating_ones_under_all_budgets() -> None:
    names = [entry.name for entry in grid(["8/8", "t/4"], ["ptq", "zeroq", "ompq"], ["bits=4", "latency=70%"])]
    fixed = ["fp32", "ptq 8/8", "zeroq 8/8", "ptq t/4", "zeroq t/4"]
    assert names == [*fixed, "zeroq bits=4", "ompq bits=4", "zeroq latency=70%", "ompq latency=70%"]


def test_files_of_different_entries_have_different_names() -> None:
    entries = grid(["8/8", "4/8", "4/4"], ["ptq", "zeroq", "ompq"], ["bits=4", "latency=70%", "bops=4%"])
    entries += [Entry("ptq", INT8.bits, options=(("observer", "minmax"),)), Entry("zeroq", limit=parse_limit("latency=70%"), isa="avx2")]
    assert len({entry.slug for entry in entries}) == len(entries)
    assert all(set(entry.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["8/8"], ["saq"], []), "'saq'"),
        ((["9/9"], ["ptq"], []), "9"),
        ((["8/8"], ["ptq"], ["bits=4"]), "chooses bits"),
    ],
)
def test_grids_that_mean_nothing_are_refused(arguments: tuple[list[str], list[str], list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(*arguments)


def test_an_entry_has_either_bits_or_a_budget() -> None:
    for make in (lambda: Entry("ptq"), lambda: Entry("fp32", INT8.bits), lambda: Entry("zeroq", INT8.bits, Limit("bits", 4.0))):
        with pytest.raises(ValueError, match="either bits or a budget"):
            make()
    with pytest.raises(ValueError, match="fixed bits"):
        Entry("ptq", limit=Limit("bits", 4.0))


def test_an_entry_configures_its_method() -> None:
    method = Entry("ptq", pq.bits.parse_bits("t/4"), options=(("observer", "minmax"),)).configuration()
    assert method == pq.PTQ(weight_bits="ternary", act_bits=4, observer="minmax")


# ---- accuracy -------------------------------------------------------------------------------------------------------


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def labelled_by(net: nn.Module, count: int = 70) -> Arrays:
    """Images that `net` classes without a mistake."""
    images = np.random.default_rng(1).normal(size=(count, 1, 9, 9)).astype(np.float32)
    with torch.inference_mode():
        return Arrays(images, net(torch.from_numpy(images)).argmax(1).numpy())


class Fixed:
    """A torch network that gives fixed logits, in the order of the images."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = torch.from_numpy(logits)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        part, self.logits = self.logits[: len(x)], self.logits[len(x) :]
        return part


def test_accuracy_counts_agreement_and_the_margin_where_engine_and_torch_differ() -> None:
    images = np.zeros((50, 2), np.float32)
    truth = np.zeros(50, np.int64)
    engine, graph = (np.tile(np.array([[1.0, 0.0, -1.55]], np.float32), (50, 1)) for _ in range(2))
    engine[:5, 1] = 2.0  # 5 wrong in the engine
    graph[:3, 1] = 2.0  # 3 of them in torch as well; 2 differ ...
    graph[3, :2] = 0.5, 0.47  # ... by 0.03
    graph[4, :2] = 0.5, 0.49
    result = evaluate(Fixed(engine), Fixed(graph), Arrays(images, truth))  # type: ignore[arg-type]
    assert (result.images, result.torch_images, result.different) == (50, 50, 2)
    assert (result.top1, result.torch_top1, result.agreement) == pytest.approx((90.0, 94.0, 96.0))
    assert result.margin_steps == pytest.approx(0.03 / (3.55 / 255), rel=1e-4)


def test_torch_may_see_fewer_images_than_the_engine() -> None:
    net = small_net()
    data = labelled_by(net)
    session = pq.Session(pq.convert(net, example_inputs=(torch.zeros(1, 1, 9, 9),)), threads=1)
    hits = pack_hits(np.ones(70, bool))
    assert evaluate(session, net, data, torch_images=40) == Accuracy(70, 100.0, 40, 100.0, 0, 0.0, hits=hits)
    assert evaluate(session, net, data, torch_images=0) == Accuracy(70, 100.0, hits=hits)


def test_a_graph_with_quantizers_runs_with_exact_sums_as_well() -> None:
    net = small_net()
    data = labelled_by(net)
    examples = (torch.zeros(1, 1, 9, 9),)
    graph = pq.quantize(net, pq.PTQ(), example_inputs=examples, calibration=[torch.from_numpy(data.images)])
    result = evaluate(pq.Session(pq.convert(graph, example_inputs=examples), threads=1), graph, data)
    assert (result.exact_different, result.exact_margin_steps, result.exact_agreement) == (0, 0.0, 100.0)


def test_two_networks_are_compared_image_by_image() -> None:
    a, b = (Accuracy(5, 60.0, hits=pack_hits(np.array(hits, bool))) for hits in ([1, 1, 1, 0, 0], [0, 1, 0, 1, 0]))
    assert discordant(a, b) == (2, 1)
    assert discordant(a, Accuracy(5, 60.0)) is None
    assert discordant(a, Accuracy(6, 60.0, hits=pack_hits(np.ones(6, bool)))) is None


def test_accuracy_needs_one_output_with_classes() -> None:
    data = Arrays(np.zeros((3, 2), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"\[N, classes\]"):
        evaluate(Fixed(np.zeros((3, 2, 2), np.float32)), None, data)  # type: ignore[arg-type]


# ---- labelled data --------------------------------------------------------------------------------------------------


def test_batches_cover_all_images_in_order() -> None:
    data = Arrays(np.arange(7, dtype=np.float32).reshape(7, 1), np.arange(7))
    assert [list(labels) for _, labels in data.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [images.shape for images, _ in data.batches(3)] == [(3, 1), (3, 1), (1, 1)]
    assert len(data.first(4)) == 4
    assert len(data.first(None)) == 7


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 3), np.float32)}, r"x \(images\) and y"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2, np.int64)}, "float32"),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(2)}, "integers"),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(3, np.int64)}, "as many labels"),
    ],
)
def test_labelled_files_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises((ValueError, TypeError), match=message):
        load_labelled(tmp_path / "data.npz")


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """Three classes of plain pictures, each wider than high or higher than wide; class b has the greenest."""
    Image = pytest.importorskip("PIL.Image")
    for label, (name, count) in enumerate({"a": 3, "b": 4, "c": 1}.items()):
        (tmp_path / "val" / name).mkdir(parents=True)
        for i in range(count):
            picture = Image.new("RGB", (40, 30) if i % 2 else (24, 50), (255, 255 * (label == 1), 0))
            picture.save(tmp_path / "val" / name / f"{i}.png")
    (tmp_path / "val" / "a" / "notes.txt").write_text("no image")
    return tmp_path / "val"


def test_a_folder_of_classes_gives_cropped_normalized_images(class_folder: Path) -> None:
    data = ClassFolder(class_folder, size=16)
    batches = list(data.batches(5))
    assert (len(data), data.classes) == (8, ["a", "b", "c"])
    assert np.concatenate([labels for _, labels in batches]).tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert [images.shape for images, _ in batches] == [(5, 3, 16, 16), (3, 3, 16, 16)]
    red, green = batches[0][0][0, 0], batches[0][0][0, 1]
    assert np.allclose(red, (1 - 0.485) / 0.229, atol=1e-5)
    assert np.allclose(green, -0.456 / 0.224, atol=1e-5)


def test_a_limited_folder_keeps_images_of_all_classes(class_folder: Path) -> None:
    data = ClassFolder(class_folder, size=8, limit=4, mean=(0, 0, 0), std=(1, 1, 1))
    assert [label for _, label in data.files] == [0, 0, 1, 1]
    assert next(data.batches(1))[0].max() == 1.0


def test_the_middle_of_an_image_is_what_is_kept(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((70, 210, 3), np.uint8)
    pixels[:, 70:140] = 255
    (tmp_path / "only").mkdir()
    Image.fromarray(pixels).save(tmp_path / "only" / "wide.png")
    image = next(ClassFolder(tmp_path, size=32, mean=(0, 0, 0), std=(1, 1, 1)).batches(1))[0][0]
    assert image.min() > 0.99


def test_a_folder_without_images_or_with_a_broken_one_says_so(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="no image in 1 folders"):
        ClassFolder(tmp_path)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.jpg: not an image"):
        next(ClassFolder(tmp_path).batches(1))


# ---- a study --------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Study:
    net = small_net()
    calibration = [torch.from_numpy(images) for images, _ in labelled_by(net, 32).batches(16)]
    return Study(net, (torch.zeros(1, 1, 9, 9),), calibration, labelled_by(net), tmp_path / "study")


def test_rows_hold_accuracy_costs_and_latency(study: Study) -> None:
    rows = run_grid(study, grid(["8/8", "4/4"], ["ptq"]))
    assert [row.name for row in rows] == ["fp32", "ptq 8/8", "ptq 4/4"]
    assert all(row.ok and row.accuracy is not None and row.latency_ms["auto"] > 0 for row in rows)
    assert rows[0].accuracy == Accuracy(70, 100.0, 70, 100.0, hits=pack_hits(np.ones(70, bool)))
    macs = 9 * 81 * 4 + 9 * 4 * 8 * 16 + 32
    assert [row.bops for row in rows[:2]] == [1024 * macs, 64 * macs]
    assert (rows[1].weight_bits, rows[1].act_bits) == (8, 8)
    assert rows[2].bits == {"0": "8/8", "3": "4/4", "7": "8/8"}
    assert rows[2].bytes == study.file(Entry("ptq", pq.bits.parse_bits("4/4"))).stat().st_size


def test_rows_are_kept_until_network_data_or_settings_change(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Study._quantize

    def counted(self: Study, entry: Entry) -> object:
        made.append(entry.name)
        return original(self, entry)

    monkeypatch.setattr(Study, "_quantize", counted)
    first = study.row(INT8)
    assert study.row(INT8) == first
    assert made == ["ptq 8/8"]
    changes = [
        {"model": nn.Sequential(*small_net(), nn.ReLU()).eval()},
        {"data": labelled_by(study.model, 71)},
        {"data": labelled_by(study.model, 72)},
    ]
    changes[0]["model"][3].weight.data[0, 0, 0, 0] += 1  # type: ignore[index, union-attr]
    for change in changes:
        fields = {name: getattr(study, name) for name in ("model", "examples", "calibration", "data", "folder", "threads", "torch_images")}
        Study(**{**fields, **change}).row(INT8)  # type: ignore[arg-type]
    assert len(made) == 4


def test_a_row_is_made_again_for_more_images_in_torch_and_not_for_fewer(study: Study) -> None:
    few, more, fewer = (replace(study, torch_images=count).row(INT8) for count in (5, 20, 10))
    assert [row.accuracy and row.accuracy.torch_images for row in (few, more, fewer)] == [5, 20, 20]


def test_a_row_is_of_one_build_of_the_engine(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.row(INT8)
    monkeypatch.setattr("pyqinfer.study.pareto.engine_build", lambda: "another")
    assert replace(study).known(INT8) is None


def test_a_method_that_cannot_is_a_row_that_says_why(study: Study) -> None:
    empty = Study(study.model, study.examples, [torch.full((2, 1, 9, 9), float("nan"))], study.data, study.folder)
    row = empty.row(INT8)
    assert not row.ok
    assert "NaN" in row.status or "finite" in row.status
    assert not empty.file(INT8).exists()


def test_latencies_are_kept_while_the_files_stay_the_same(study: Study) -> None:
    run_grid(study, [INT8])
    assert study.latency([INT8]) == study.latency([INT8])
    calls: list[int] = []
    with_other = study.latency([INT8], others={"other": lambda x: calls.append(1)})
    assert sorted(with_other) == ["other", "ptq 8/8"]
    assert calls


def test_a_damaged_row_is_made_again(tmp_path: Path) -> None:
    row = Row("ptq 8/8", "ptq", accuracy=Accuracy(10, 90.0), bits={"fc": "8/8"})
    write_row(tmp_path / "row.json", "key", row)
    assert read_row(tmp_path / "row.json", "key") == row
    assert read_row(tmp_path / "row.json", "other") is None
    (tmp_path / "row.json").write_text("{")
    assert read_row(tmp_path / "row.json", "key") is None


def test_the_frontier_has_the_points_that_no_other_beats() -> None:
    points = [(3.0, 90.0), (1.0, 80.0), (2.0, 80.0), (4.0, 90.0), (5.0, 95.0), (1.0, 70.0)]
    assert frontier(points) == [1, 0, 4]


ROWS = [
    Row("fp32", "fp32", accuracy=Accuracy(10, 95.0), bops=1000, bytes=4000, latency_ms={"auto": 3.0}),
    Row("ptq 8/8", "ptq", accuracy=Accuracy(10, 94.0, 10, 94.0), bops=100, bytes=1000, latency_ms={"auto": 1.0}),
    Row("peer 8/8", "peer", accuracy=Accuracy(10, 93.5), bytes=1200),
    Row("zeroq 8/8", "zeroq", status="no BatchNorm"),
]


def test_the_table_shows_what_is_known_and_why_the_rest_is_not() -> None:
    report = study_report("net", ROWS, {"cpu": "X"})
    assert [row.get("top1_percent") for row in report.rows] == [95.0, 94.0, 93.5, None]
    assert "zeroq 8/8: no BatchNorm" in report.table()
    assert report.facts["cpu"] == "X"


def test_the_picture_needs_a_quantized_network(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw("net", ROWS, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw("net", ROWS[:1], tmp_path / "none.png")


# ---- the command ----------------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).eval()
"""


def test_the_command_writes_a_table_one_json_and_one_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "nets.py").write_text(NETS)
    data = labelled_by(small_net(), 40)
    np.savez(tmp_path / "data.npz", x=data.images, y=data.labels)
    arguments = ["pareto", f"{tmp_path}/nets.py:net", "--input", "1x1x9x9", "--eval", f"{tmp_path}/data.npz", "--out", f"{tmp_path}/out"]
    done = CliRunner().invoke(app, [*arguments, "--grid", "8/8,4/4", "--methods", "ptq", "--isa", "auto,reference"])
    assert done.exit_code == 0, done.stderr
    assert "ms (reference)" in done.stdout
    content = json.loads((tmp_path / "out" / "pareto.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["fp32", "ptq 8/8", "ptq 4/4"]
    assert set(content["rows"][1]["latency_ms"]) == {"auto", "reference"}
    assert content["facts"]["images"] == 40
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--grid", "9/9"], "9/9"), (["--budgets", "bits=4", "--methods", "ptq"], "chooses bits"), (["--samples", "0"], "--samples")],
)
def test_the_command_refuses_what_means_nothing(options: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["pareto", "json:loads", "--input", "1x1x9x9", "--eval", f"{tmp_path}/data.npz", *options])
    assert done.exit_code == 1
    assert message in done.stderr
