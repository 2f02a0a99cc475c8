"""Measuring: what is taken as a model, blocks of calls, busy machines, traces; and outputs by name."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pyqinfer as pq
from pyqinfer.measure.blocks import Measured, run_block
from pyqinfer.session import Outputs

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    """A network with two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.conv(x)
        return {"boxes": y, "scores": y.mean((2, 3))}


@pytest.fixture(scope="module")
def model() -> pq.Model:
    return pq.convert(Two().eval(), example_inputs=X)


@pytest.fixture(scope="module")
def file(model: pq.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measure") / "two.pqi"
    model.save(path)
    return path


@pytest.mark.parametrize("call", [lambda s: s(X), lambda s: s([X]), lambda s: s(x=X), lambda s: s({"x": X})])
def test_inputs_by_position_list_and_name_are_the_same(model: pq.Model, call: Any) -> None:
    session = pq.Session(model)
    named = session.run({"x": X})
    assert all(torch.equal(got, named[name]) for name, got in zip(model.outputs, call(session), strict=True))


def test_outputs_go_by_position_and_by_name(file: Path) -> None:
    session = pq.Session(file)
    first, second = session(X)
    y = session(X.numpy())
    name, other = session.model.outputs
    assert np.array_equal(y[name], first.numpy())
    assert np.array_equal(getattr(y, other), second.numpy())
    with pytest.raises(KeyError, match=name):
        y["masks"]
    for again in (copy.copy(y), pickle.loads(pickle.dumps(y))):
        assert isinstance(again, Outputs)
        assert again.names == y.names
        assert np.array_equal(again[1], y[1])


def test_every_kind_of_model_is_compared_and_profiled(model: pq.Model, file: Path) -> None:
    net = Two().eval()
    for first in (net, model, pq.Session(model), file):
        for second in (model, pq.Session(model), str(file), net):
            assert all(float(row["sqnr_db"] or 0) > 100 for row in pq.compare(first, second, X).rows)
    names = [[row["name"] for row in pq.profile(kind, X, repeat=1).rows] for kind in (net, model, pq.Session(model), file)]
    assert all(found == names[0] for found in names)


@pytest.mark.parametrize(
    ("candidates", "names"),
    [
        (lambda m, f: m, ["Model"]),
        (lambda m, f: f, ["two.pqi"]),
        (lambda m, f: [m, pq.Session(m), f, f], ["Model", "Session", "two.pqi", "two.pqi 2"]),
        (lambda m, f: {"a": m, "b": Two()}, ["a", "b"]),
    ],
)
def test_a_race_takes_one_model_a_list_or_names(model: pq.Model, file: Path, candidates: Any, names: list[str]) -> None:
    report = pq.benchmark(candidates(model, file), X, rounds=1, min_time=0.01)
    assert [row["name"] for row in report.rows] == names
    for row in report.rows:
        assert row["min_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert report.facts["batch"] == 2


def test_callers_at_once_are_counted_together() -> None:
    calls: list[int] = []
    found = run_block(lambda: calls.append(1), seconds=0.02, concurrency=3, threads=1)
    assert len(found.times) == len(calls) - 3 * 3  # each caller discards three calls


def test_the_error_of_a_caller_is_told() -> None:
    def fail() -> None:
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        run_block(fail, seconds=0.1, concurrency=2, threads=1)


@pytest.mark.parametrize(
    ("measured", "disturbed"),
    [
        (Measured([1.0, 1.1, 1.2], seconds=1, cpu_seconds=0.99), False),
        (Measured([1.0, 1.1, 1.2], seconds=1, cpu_seconds=0.5), True),  # another process had the CPU half of the time
        (Measured([1.0, 5.0, 9.0], seconds=1, cpu_seconds=0.99), True),
    ],
)
def test_a_busy_machine_is_noticed(measured: Measured, disturbed: bool) -> None:
    assert measured.disturbed == disturbed


def test_a_busy_machine_gives_no_speed_up(model: pq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Measured, "disturbed", True)
    report = pq.benchmark({"torch": Two(), "engine": model}, X, rounds=1, min_time=0.01)
    assert [row["speedup"] for row in report.rows] == [None, None]
    assert "this machine is busy" in report.notes[-1]


def test_a_trace_has_every_layer_one_after_the_other(model: pq.Model, tmp_path: Path) -> None:
    report = pq.profile(model, X, repeat=2, trace=tmp_path / "trace.json")
    events = [event for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in events] == [row["name"] for row in report.rows]
    for before, event in pairwise(events):
        assert event["ts"] == pytest.approx(before["ts"] + before["dur"])
    assert sum(event["dur"] for event in events) == pytest.approx(1e3 * report.facts["total_ms"])
