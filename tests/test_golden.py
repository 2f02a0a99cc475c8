"""Golden files: one set per format version, kept for ever. Every ISA and the NumPy twin give their stored outputs, bit for bit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyqinfer as pq
from pyqinfer import reference

GOLDEN = Path(__file__).resolve().parent / "golden"
SUMS = {line.split()[1]: line.split()[0] for line in (GOLDEN / "SHA256SUMS").read_text().splitlines()}


def samples(model: pq.Model) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [
        ({k: model.constant(i) for k, i in sample["inputs"].items()}, {k: model.constant(i) for k, i in sample["outputs"].items()})
        for sample in model.graph["samples"]
    ]


def assert_same_bits(got: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tobytes() == array.tobytes(), name


def test_the_list_of_hashes_is_complete() -> None:
    assert sorted(SUMS) == sorted(path.name for path in GOLDEN.glob("*.pqi"))
    assert any(name.startswith("v1.0-") for name in SUMS)


@pytest.mark.parametrize("name", SUMS)
def test_the_file_is_the_one_that_was_released(name: str) -> None:
    assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == SUMS[name]


@pytest.mark.parametrize("name", SUMS)
def test_every_isa_gives_the_stored_outputs(name: str) -> None:
    model = pq.load(GOLDEN / name)
    assert samples(model)
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 2, 3):
            session = pq.Session(model, threads=threads, isa=isa)
            for inputs, outputs in samples(model):
                assert_same_bits(session.run(inputs), outputs)


@pytest.mark.parametrize("name", SUMS)
def test_the_numpy_twin_gives_the_stored_outputs(name: str) -> None:
    model = pq.load(GOLDEN / name)
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    for inputs, outputs in samples(model):
        assert_same_bits(reference.run(model.graph, constants, inputs), outputs)


@pytest.mark.parametrize("name", SUMS)
def test_saving_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    pq.load(GOLDEN / name).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_a_sample_is_worth_checking() -> None:
    """Outputs that are constant or not finite would prove little."""
    for name in SUMS:
        for _, outputs in samples(pq.load(GOLDEN / name)):
            for array in outputs.values():
                assert np.isfinite(array).all()
                assert np.ptp(array) > 0
