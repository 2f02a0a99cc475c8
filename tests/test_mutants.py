"""The campaign of mutants works: what it puts together is what the engine writes, it reaches runs, and it sees what it looks for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from mutants import container
from mutants.campaign import Campaign, seeds

from pyqinfer import _core


def test_files_taken_apart_go_together_again() -> None:
    files = seeds().values()
    assert len(files) > 100
    assert [container.write(container.read(file)) == file for file in files] == [True] * len(files)


def test_mutants_are_refused_or_run_as_documented() -> None:
    campaign = Campaign(seed=1)
    for file in itertools.islice(campaign, 1500):
        campaign.try_one(file)
    assert campaign.counts["loaded"] > 200
    assert campaign.counts["ran"] > 150
    assert campaign.counts["ModelFormatError"] > 500


def test_a_finding_carries_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(seed=2)
    real = campaign._run

    def broken(model: Any) -> None:
        real(model)
        raise KeyError("a type of error that no run documents")

    monkeypatch.setattr(campaign, "_run", broken)

    def go_on() -> None:
        for file in itertools.islice(campaign, 200):
            campaign.try_one(file)

    with pytest.raises(AssertionError, match="KeyError") as caught:
        go_on()
    assert _core.Model.from_bytes(caught.value.file)  # type: ignore[attr-defined]
