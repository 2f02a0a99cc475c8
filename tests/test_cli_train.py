"""``pyqinfer train``, driven as a user drives it, and the labelled images that it reads."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import invoke

import pyqinfer as pq
from pyqinfer.study.labelled import Arrays
from pyqinfer.study.training_data import Augmentation, load_splits, training_batches

MODEL = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10),
    ).eval()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    (folder / "nets.py").write_text(MODEL)
    for split in ("train", "test"):
        images, labels = pq.zoo.digits(split)
        np.savez(folder / f"{split}.npz", x=images, y=labels)
    return folder


@pytest.mark.parametrize("method", ["qat", "saq"])
def test_a_network_is_trained_converted_and_measured(work: Path, method: str) -> None:
    common = ("train", f"{work}/nets.py:net", "--input", "1x1x8x8", "--data", work / "train.npz", "--val", work / "test.npz")
    options = (
        "--method",
        method,
        "--bits",
        "4/4",
        "--epochs",
        "4",
        "--lr",
        "0.2",
        "--batch-size",
        "32",
        "--out",
        work / f"{method}.pqi",
        "-o",
        "json",
    )
    code, out, err = invoke(*common, *options, "--checkpoint", work / f"{method}.pt")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["val_top1_percent"] > 80
    assert "torch with exact sums gives 100.00 %" in " ".join(err.split())
    model = pq.load(work / f"{method}.pqi")
    assert model.integer_share() == 1.0
    assert (work / f"{method}.pt").is_file()


def test_sparse_ternary_weights_are_trained_too(work: Path) -> None:
    common = ("train", f"{work}/nets.py:net", "--input", "1x1x8x8", "--data", work / "train.npz", "--method", "pruned_ternary")
    code, _, err = invoke(*common, "--sparsity", "0.5", "--keep", "0=8/8", "--epochs", "1", "--out", work / "ternary.pqi")
    assert code == 0, err
    assert (work / "ternary.pqi").stat().st_size < (work / "qat.pqi").stat().st_size


def test_saq_chooses_bits_under_a_budget_and_draws_sharpness(work: Path) -> None:
    small = np.load(work / "train.npz")
    np.savez(work / "small.npz", x=small["x"][:128], y=small["y"][:128])
    common = ("train", f"{work}/nets.py:net", "--input", "1x1x8x8", "--data", work / "small.npz", "--val", work / "small.npz")
    options = (
        "--method",
        "saq",
        "--budget-bops",
        "0.03",
        "--epochs",
        "1",
        "--search-epochs",
        "2",
        "--out",
        work / "mixed.pqi",
        "--sharpness",
        work / "s.png",
    )
    code, out, err = invoke(*common, *options)
    assert code == 0, err
    assert "(budget: 0.03000 of the float network's BOPs)" in out
    assert "loss uphill" in out
    assert (work / "s.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "ptq"), "needs no training"),
        (("--method", "qat", "--rho", "0.3"), "has no use for --rho"),
        (("--method", "saq", "--sparsity", "0.5"), "has no use for --sparsity"),
        (("--batch-size", "0"), "--batch-size: expected at least 1"),
        (("--method", "saq", "--sharpness", "s.png"), "--sharpness is measured by --method saq on --val"),
        (("--method", "qat", "--budget-bops", "0.02"), "budget: QAT"),
    ],
)
def test_options_that_do_not_fit_are_refused(work: Path, options: tuple[str, ...], message: str) -> None:
    given = ("--input", "1x1x8x8", "--data", work / "train.npz", "--out", work / "x.pqi")
    code, _, err = invoke("train", f"{work}/nets.py:net", *given, *options)
    assert code == 1
    assert message in err


def test_the_example_of_ones_own_loop_trains_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = Path(__file__).parents[1] / "examples" / "train" / "own_loop.py"
    monkeypatch.setattr(sys, "argv", [str(example), "--bits", "4/4", "--epochs", "2", "--out", str(tmp_path / "d.pqi")])
    runpy.run_path(str(example), run_name="__main__")
    assert pq.load(tmp_path / "d.pqi").integer_share() == 1.0
    text = capsys.readouterr().out
    assert float(text.split("in the engine ")[1].split(" %")[0]) > 80


def test_quantize_sends_methods_that_train_to_train(work: Path) -> None:
    code, _, err = invoke("quantize", f"{work}/nets.py:net", "--input", "1x1x8x8", "--method", "qat", "--out", work / "x.pqi")
    assert code == 1
    assert "pyqinfer train" in err


def test_a_folder_of_train_and_val_gives_both(tmp_path: Path) -> None:
    from PIL import Image

    for split, count in (("train", 3), ("val", 2)):
        for label in ("a", "b"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 12), (10 * i, 0, 0)).save(folder / f"{i}.png")
    train, val = load_splits(tmp_path, None, 8)
    assert (len(train), len(val)) == (6, 4)
    images, labels = next(iter(training_batches(train, 6, Augmentation())))
    assert images.shape == (6, 3, 8, 8)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_augmentation_moves_and_mirrors_and_draws_from_torch() -> None:
    images = torch.arange(2 * 5 * 5.0).reshape(2, 1, 5, 5) + 1
    torch.manual_seed(0)
    seen = [Augmentation(shift=2, flip=True)(images) for _ in range(40)]
    torch.manual_seed(0)
    assert torch.equal(seen[0], Augmentation(shift=2, flip=True)(images))
    variants = {tuple(x[0].flatten().tolist()) for x in seen}
    assert len(variants) > 15
    assert any(torch.equal(x[0, 0, 2:, 2:], images[0, 0, :3, :3]) for x in seen)
    assert all(set(x[0].unique().tolist()) <= {0.0, *range(1, 26)} for x in seen)
    assert torch.equal(Augmentation()(images), images)


def test_training_batches_leave_out_a_short_last_one_only_where_there_are_others() -> None:
    data = Arrays(np.zeros((10, 1, 2, 2), np.float32), np.arange(10))
    assert [len(y) for _, y in training_batches(data, 4, Augmentation())] == [4, 4]
    assert [len(y) for _, y in training_batches(data, 16, Augmentation())] == [10]
