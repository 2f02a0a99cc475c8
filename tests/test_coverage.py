"""The sweep over other packages' models: trials, joined files, the page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from benchmarks.coverage.__main__ import main
from benchmarks.coverage.case import Built, Case, Outcome
from benchmarks.coverage.page import first_reason, page
from benchmarks.coverage.sources import cases_of
from benchmarks.coverage.trial import attempt, without_folders

ROWS = [
    Outcome("layers", "a", "float", "open", 3.0, 300),
    Outcome("layers", "a", "static", "fixed", 61.0, 5000, 0.5),
    Outcome("layers", "a", "dynamic", "open", 6.0, 500, 0.25),
    Outcome(
        "layers",
        "b",
        "float",
        "refused",
        1.0,
        200,
        reason="2 operation(s) cannot be converted:\n  - x: aten.y: no | such (/home/z.py:3)\n  - w",
    ),
]


def write(path: Path, rows: list[Outcome]) -> str:
    path.write_text(json.dumps([asdict(row) for row in rows]))
    return str(path)


def test_a_trial_says_what_came_of_it() -> None:
    x = torch.randn(2, 3, 8, 8)
    good = Case("layers", "good", lambda: Built(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval(), (x,)))
    outcome = attempt(good, "static")
    assert (outcome.how, outcome.integers) == ("open", 1)
    assert 0 < outcome.seconds < 60
    assert outcome.peak_mb > 50

    class Other(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.lgamma()

    outcome = attempt(Case("layers", "bad", lambda: Built(Other(), (x,))), "float")
    assert outcome.how == "refused"
    assert first_reason(outcome.reason).startswith("lgamma: aten.lgamma: no such operation in the engine")


def test_the_page_has_totals_rows_and_reasons() -> None:
    lines = page(ROWS).splitlines()
    assert "| layers | 2 | 1 | 1 | 1 of 1 tried | 0 | 1 | 1 |" in lines
    assert "| a | yes | 50 % | 25 % | fixed | 61 | 5000 |" in lines
    assert "| b | refused |  |  |  | 1 | 200 |" in lines
    assert "| layers | b | float | x: aten.y: no / such |" in lines


def test_files_are_joined_and_later_rows_win(tmp_path: Path) -> None:
    first = write(tmp_path / "1.json", ROWS)
    second = write(tmp_path / "2.json", [Outcome("layers", "b", "float", "open", 2.0, 250)])
    assert main(["--merge", first, second, "--out", str(tmp_path / "all.json"), "--page", str(tmp_path / "page.md")]) == 0
    rows = json.loads((tmp_path / "all.json").read_text())
    assert [(row["name"], row["form"], row["how"]) for row in rows] == [
        ("a", "float", "open"),
        ("a", "static", "fixed"),
        ("a", "dynamic", "open"),
        ("b", "float", "open"),
    ]
    assert "What is refused" not in (tmp_path / "page.md").read_text()


def test_names_of_layers_rows_build_models_in_evaluation_mode() -> None:
    for case in cases_of("layers"):
        assert not case.build().model.training, case.name


def test_a_reason_names_files_without_the_folders_of_a_machine() -> None:
    text = 'head.sort: aten.sort: 1/2 of it (/home/me/a-b/net.py:22)\n  File "/usr/lib/torch/fx.py", line 3, in run'
    assert without_folders(text) == 'head.sort: aten.sort: 1/2 of it (net.py:22)\n  File "fx.py", line 3, in run'
