"""The training experiment (rows that are kept, what a row is) and the scenes (drawing, AP, IoU, decoding)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import benchmarks.methods.training as command
import pyqinfer as pq
from benchmarks.methods.document import fill
from benchmarks.methods.networks import Network
from benchmarks.methods.results import with_earlier
from benchmarks.methods.scenes import detector, metrics
from benchmarks.methods.scenes.data import LETTERS, MOST, SIZE, overlaps, scenes
from benchmarks.methods.scenes.metrics import Detections
from benchmarks.methods.scenes.networks import TASKS, torch_run
from benchmarks.methods.scenes.rows import ENTRIES, SceneStudy
from benchmarks.methods.training_entries import RECIPES, Recipe, TrainedEntry, mixed, rows, ternary, trained
from pyqinfer.study.grid import Entry
from pyqinfer.study.labelled import Arrays
from pyqinfer.study.training_data import Augmentation
from pyqinfer.train.generator import Search
from pyqinfer.zoo.fonts import missing_packages

needs_fonts = pytest.mark.skipif(bool(missing_packages()), reason="fonts of the glyphs are not installed")
SHORT = Recipe(epochs=1, images=32, batch=16, ternary=1)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def subject() -> command.Subject:
    rng = np.random.default_rng(0)
    data = Arrays(rng.normal(size=(40, 1, 9, 9)).astype(np.float32), rng.integers(0, 3, 40))
    network = Network("small", "A small network", net(), [torch.from_numpy(data.images[:16])], data, None, {"model": "net"})
    return command.Subject(network, data, data, Augmentation(), SHORT)


# ---- rows that are trained ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", RECIPES)
def test_every_row_has_a_name_of_its_own_and_a_method(network: str) -> None:
    entries = rows(network, SHORT, [0, 1])
    assert len({entry.name for entry in entries}) == len({entry.slug for entry in entries}) == len(entries)
    methods = {entry.name: entry.configuration() for entry in entries if isinstance(entry, TrainedEntry)}
    assert (methods["qat 2/2"].weight_bits, methods["qat 2/2 seed 1"].seed) == (2, 1)
    assert methods["qat 2/2"].epochs > methods["qat 3/3"].epochs == SHORT.epochs
    halved = rows(network, replace(SHORT, rate=0.5), [0])
    slower = {entry.name: entry.configuration() for entry in halved if isinstance(entry, TrainedEntry)}
    assert all(method.lr == methods[name].lr / 2 for name, method in slower.items())
    assert {methods[f"ternary t/32 {share}% zeros"].sparsity for share in (50, 88, 93)} == {0.5, 0.88, 0.93}
    assert ("qat 8/8 30% of channels pruned" in methods) == network.startswith("mobilenet")


def test_a_row_is_trained_once_and_again_when_its_settings_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[str] = []
    quantize = command.pq.quantize
    monkeypatch.setattr(command.pq, "quantize", lambda *args, **options: trainings.append("x") or quantize(*args, **options))
    options = command._parser().parse_args(["--out", str(tmp_path)])
    entry = replace(trained("qat", 4), recipe=SHORT)

    def row(entry: Entry) -> object:
        return subject().study(options, lambda what, done, total: None).row(entry)

    assert row(entry) == row(entry)
    assert len(trainings) == 1
    assert not list(tmp_path.rglob("*.pt")), "checkpoints of rows that are done go"
    row(replace(entry, recipe=replace(SHORT, epochs=2)))
    row(replace(entry, seed=1))
    assert len(trainings) == 3


def test_a_stopped_command_keeps_its_rows_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_subjects", lambda options: [subject()])
    wanted = [Entry("fp32"), *(replace(entry, recipe=SHORT) for entry in (trained("qat", 4), ternary(88, 4)))]
    monkeypatch.setattr(command, "rows", lambda *arguments: wanted)
    quantize, trainings = command.pq.quantize, []

    def interrupted(model: object, method: object, **options: object) -> object:
        if isinstance(method, command.pq.PrunedTernary):
            raise KeyboardInterrupt
        return quantize(model, method, **options)

    def counted(model: object, method: object, **options: object) -> object:
        trainings.append(type(method).__name__)
        return quantize(model, method, **options)

    monkeypatch.setattr(command.pq, "quantize", interrupted)
    arguments = ["--out", str(tmp_path), "--stages", "rows"]
    with pytest.raises(KeyboardInterrupt):
        command.main(arguments)
    first = json.loads((tmp_path / "results.json").read_text())["networks"]["small"]
    assert [row["name"] for row in first["rows"]] == ["fp32", "qat 4/4"]
    monkeypatch.setattr(command.pq, "quantize", counted)
    assert command.main(arguments) == 0
    second = json.loads((tmp_path / "results.json").read_text())["networks"]["small"]
    assert [row["name"] for row in second["rows"]] == ["fp32", "qat 4/4", "ternary t/4 88% zeros"]
    assert (second["rows"][1], trainings) == (first["rows"][1], ["PrunedTernary"])
    assert second["training"]["qat 4/4"] == {**second["training"]["qat 4/4"], "seed": 0, "epochs": 1, "images": 32}
    table = fill("<!-- trained: small -->\n<!-- end -->", json.loads((tmp_path / "results.json").read_text()))
    assert "| qat 4/4 |" in table
    assert "| 1 x 32 |" in table


def test_rows_of_an_earlier_run_stay_in_their_order() -> None:
    before = [{"name": "a", "x": 0}, {"name": "c", "x": 0}, {"name": "gone", "x": 0}]
    found = with_earlier([{"name": "b", "x": 1}, {"name": "c", "x": 1}], before, ["a", "b", "c"])
    assert [(row["name"], row["x"]) for row in found] == [("a", 0), ("b", 1), ("c", 1), ("gone", 0)]


@pytest.mark.parametrize(("limit", "isa"), [("bops=4%", "auto"), ("latency=90%", pq.cpu_info()["best"])])
def test_bits_are_found_under_a_budget_and_the_row_keeps_it(limit: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.TrainingStudy, "int8_ms", lambda study, isa: 1e3)
    search = Search(epochs=2, warmup=1, policy_steps=1, finalists=2)
    entry = replace(mixed(limit, isa), options=(("search", search),), recipe=SHORT)
    study = subject().study(command._parser().parse_args(["--out", str(tmp_path)]), lambda what, done, total: None)
    row = study.row(entry)
    assert row.ok, row.status
    assert row.name == f"saq {limit}" + (f" on {isa}" if "latency" in limit else "")
    assert row.budget == ({"bops": 0.04} if "bops" in limit else {"latency_ms": 900})
    assert not list(tmp_path.rglob("*.pt*")), "checkpoints and their bits go"


@pytest.mark.parametrize("what", ["weights", "channels"])
def test_a_network_is_pruned_before_it_is_quantized(what: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    batches = [(torch.randn(8, 1, 9, 9), torch.randint(0, 3, (8,))) for _ in range(4)]
    entry = replace(trained("qat", 8), pruned=what, share=0.5, recipe=SHORT)
    pruned = command._pruned(model.eval(), entry, batches, (torch.randn(1, 1, 9, 9),))
    weight = pruned[2].weight
    assert weight.numel() == (32 * 32 * 9 if what == "weights" else 16 * 16 * 9)
    assert float((weight == 0).float().mean()) == pytest.approx(0.5 if what == "weights" else 0.0)


@pytest.mark.parametrize(
    ("options", "message"), [(["--networks", "nothing"], "'nothing'"), (["--data", "."], "--model"), (["--data", ".", "--model", "x"], ".")]
)
def test_wrong_options_are_refused_with_a_sentence(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(options) == 2
    assert message in capsys.readouterr().err


# ---- scenes ---------------------------------------------------------------------------------------------------------


@needs_fonts
def test_a_scene_depends_on_its_split_seed_and_number_alone() -> None:
    few, more = scenes("test", 3), scenes("test", 6)
    for a, b in ((few.images, more.images), (few.boxes, more.boxes), (few.labels, more.labels), (few.masks, more.masks)):
        assert np.array_equal(a, b[:3])
    assert not np.array_equal(few.images, scenes("test", 3, seed=1).images)
    assert not np.array_equal(few.images, scenes("train", 3).images)


@needs_fonts
def test_boxes_and_masks_say_the_same() -> None:
    data = scenes("train", 24)
    assert (data.images.shape, data.boxes.shape) == ((24, 1, SIZE, SIZE), (24, MOST, 4))
    for boxes, labels, mask in zip(data.boxes, data.labels, data.masks, strict=True):
        there = labels >= 0
        assert there.any()
        assert set(np.unique(mask)) <= {0, *(labels[there] + 1)}
        inside = np.zeros(mask.shape, bool)
        for x0, y0, x1, y1 in boxes[there].astype(int):
            inside[y0:y1, x0:x1] = True
        assert not mask[~inside].any()
        alone = overlaps(boxes[there], boxes[there]).max() if there.sum() > 1 else 0.0
        if there.sum() == 1 and not alone:
            rows_, columns = np.nonzero(mask)
            assert [columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1] == boxes[0].astype(int).tolist()


def boxes_of(*rows_: tuple[list[float], int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in rows_], float).reshape(-1, 4),
        np.array([label for _, label, _ in rows_], int),
        np.array([score for _, _, score in rows_], float),
    )


def test_overlaps_of_boxes_by_hand() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], float)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 1], [5, 5, 6, 6]], float)
    assert overlaps(a, b) == pytest.approx(np.array([[1 / 7, 0.5, 0], [0, 0, 0]]))


def test_average_precision_by_hand() -> None:
    truth = [boxes_of(([0, 0, 10, 10], 0, 1), ([20, 20, 30, 30], 0, 1)), boxes_of(([0, 0, 10, 10], 0, 1))]
    # By score: right, a second box on a letter that is taken, wrong, right; one letter of three is never found.
    found = [
        boxes_of(([0, 0, 10, 10], 0, 0.9), ([0, 0, 10, 9], 0, 0.8), ([20, 20, 30, 30], 0, 0.3)),
        boxes_of(([50, 50, 60, 60], 0, 0.5)),
    ]
    assert metrics.average_precision(found, truth, 0.5) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 4)
    assert metrics.average_precision(truth, truth, 0.5) == 1.0
    assert metrics.average_precision([boxes_of(), boxes_of()], truth, 0.5) == 0.0


def test_precision_is_averaged_over_the_classes_that_occur_and_over_thresholds() -> None:
    truth = [boxes_of(([0, 0, 10, 10], 1, 1), ([20, 20, 30, 30], 4, 1))]
    found = [boxes_of(([0, 0, 10, 8], 1, 0.9), ([20, 20, 30, 30], 2, 0.8))]  # IoU 0.8 with one letter; the other has another class
    assert metrics.average_precision(found, truth, 0.8) == pytest.approx(0.5)
    assert metrics.average_precision(found, truth, 0.85) == 0.0
    assert metrics.mean_average_precision(found, truth) == pytest.approx(0.5 * 7 / 10)


def test_mean_iou_by_hand() -> None:
    truth = np.array([[[0, 1, 1, 2]], [[0, 0, 2, 2]]])
    predicted = np.array([[[0, 1, 0, 2]], [[1, 0, 2, 0]]])
    # Class 1: one pixel common, three in either. Class 2: two and three. Class 3 does not occur.
    assert metrics.mean_iou(predicted, truth, 4) == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert metrics.mean_iou(truth, truth, 3) == 1.0


def test_what_the_loss_wants_of_the_network_is_decoded_to_the_letters() -> None:
    boxes = np.zeros((1, MOST, 4), np.float32)
    labels = np.full((1, MOST), -1, np.int64)
    boxes[0, :2], labels[0, :2] = [[3, 5, 17, 20], [30, 28, 55, 60]], [2, 5]
    wanted, shifts = detector._targets(torch.from_numpy(boxes), torch.from_numpy(labels))
    assert set(wanted[wanted >= 0].tolist()) == {2, 5}
    scores = nn.functional.one_hot(wanted.clamp(min=0), len(LETTERS)) * (wanted >= 0).unsqueeze(-1) * 20.0 - 10
    outputs: list[np.ndarray] = []
    start = 0
    for stride, sides in detector.LEVELS:
        side, count = SIZE // stride, (SIZE // stride) ** 2 * len(sides)
        for values in (scores, shifts):
            part = values[:, start : start + count].reshape(1, side, side, -1).permute(0, 3, 1, 2)
            outputs.append(part.float().numpy())
        start += count
    (found,) = detector.decode(outputs)
    order = np.argsort(found.labels)
    assert found.labels[order].tolist() == [2, 5]
    assert found.boxes[order] == pytest.approx(boxes[0, :2], abs=1e-3)


@needs_fonts
def test_the_detectors_loss_falls() -> None:
    torch.manual_seed(0)
    data = scenes("train", 8)
    model = detector.Detector(8)
    targets = (torch.from_numpy(data.boxes), torch.from_numpy(data.labels))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(12):
        loss = detector.loss(model(torch.from_numpy(data.images)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@needs_fonts
def test_the_example_of_a_detector_draws_what_it_found(tmp_path: Path) -> None:
    root, picture = Path(__file__).parents[1], tmp_path / "found.png"
    command = [sys.executable, str(root / "examples/detection/detect.py"), "--out", str(picture), "--scenes", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 3
    with Image.open(picture) as image:
        assert image.width == 3 * image.height


def test_a_row_of_scenes_is_made_once_and_says_what_torch_says(tmp_path: Path) -> None:
    task = replace(TASKS["detector"], make=lambda: detector.Detector(8))
    torch.manual_seed(0)
    model = task.make().eval()
    with torch.no_grad():
        model.score.bias.fill_(0.0)  # so that an untrained network finds something
    study = SceneStudy(task, model, scenes("train", 4), scenes("test", 4), 1, tmp_path)
    row = study.row(ENTRIES[0])
    assert study.known(ENTRIES[0]) == row
    assert row.scores == pytest.approx(task.scores(torch_run(model), study.test), abs=0.5)
    assert replace(study, epochs=2).known(ENTRIES[0]) == row, "the float network has no epochs"
    assert replace(study, test=scenes("test", 3)).known(ENTRIES[0]) is None


# ---- the document ---------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", ["training", "scenes"])
def test_the_documents_figures_are_those_of_the_results(kind: str) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    (name,) = set(re.findall(rf"benchmarks/results/([\d-]+-{kind}\.json)", text))
    results = json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))
    assert fill(text, results) == text
    assert "-->\n<!-- end" not in text, "no block is empty"
