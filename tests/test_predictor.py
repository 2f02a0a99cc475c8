"""The predictor: columns in, columns out, pickled by path, the same bits for every batch split."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pyqinfer as pq

IMAGES = np.random.default_rng(0).normal(size=(23, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    model = pq.convert(pq.quantize(net, pq.PTQ(), example_inputs=IMAGES[:1], calibration=IMAGES), example_inputs=IMAGES[:1])
    file = tmp_path_factory.mktemp("predictor") / "net.pqi"
    model.save(file)
    return file


def predictor(path: Path, threads: int | None = 1) -> pq.Predictor:
    return pq.Predictor(path, inputs={"image": "input"}, outputs={"output": "logits"}, threads=threads)


def test_columns_are_mapped_and_others_left_aside(path: Path) -> None:
    result = predictor(path)({"image": IMAGES, "label": np.arange(23)})
    assert list(result) == ["logits"]
    assert np.array_equal(result["logits"], pq.Session(path)(IMAGES))
    assert list(pq.Predictor(path)({"input": IMAGES})) == ["output"]


@pytest.mark.parametrize("size", [1, 4, 7, 22])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_bits_in_every_batch(path: Path, size: int, threads: int) -> None:
    whole = predictor(path)({"image": IMAGES})["logits"]
    run = predictor(path, threads)
    parts = [run({"image": IMAGES[start : start + size]})["logits"] for start in range(0, len(IMAGES), size)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_arrays_in_a_list_are_a_column(path: Path) -> None:
    column = np.empty(len(IMAGES), object)
    column[:] = list(IMAGES)
    expected = predictor(path)({"image": IMAGES})["logits"]
    assert np.array_equal(predictor(path)({"image": column})["logits"], expected)
    assert np.array_equal(predictor(path)({"image": list(IMAGES)})["logits"], expected)


def test_it_is_pickled_by_path(path: Path) -> None:
    data = pickle.dumps(predictor(path))
    assert len(data) < 500
    assert np.array_equal(pickle.loads(data)({"image": IMAGES})["logits"], predictor(path)({"image": IMAGES})["logits"])


def test_worker_processes_give_the_same_bits(path: Path) -> None:
    run = predictor(path)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(run, [{"image": IMAGES[:10]}, {"image": IMAGES[10:]}]))
    assert np.array_equal(np.concatenate([part["logits"] for part in parts]), run({"image": IMAGES})["logits"])


@pytest.mark.parametrize(
    ("options", "batch", "text"),
    [
        ({"inputs": {"image": "x"}}, {}, "expected a column for each of input"),
        ({"outputs": {"classes": "y"}}, {}, "the model has no classes; its outputs are output"),
        ({}, {"image": IMAGES}, "the batch has no column input; it has image"),
    ],
)
def test_a_column_that_is_not_there_is_named(path: Path, options: dict[str, dict[str, str]], batch: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        pq.Predictor(path, **options)(batch)  # type: ignore[arg-type]
