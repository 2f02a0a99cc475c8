"""Sources of models, quantization methods and costs of a budget: what adding one asks for, held for each that there is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import pyqinfer as pq
from pyqinfer.allocation.costs import budget_costs
from pyqinfer.allocation.latency import LATENCY
from pyqinfer.budget import COSTS, Cost
from pyqinfer.cli.app import app
from pyqinfer.cli.quantize import BUDGET_OPTIONS
from pyqinfer.frontend import aten
from pyqinfer.frontend.sources.registry import SOURCES
from pyqinfer.frontend.sources.source import Source
from pyqinfer.methods.registry import METHODS, MethodRow
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import quantizable_nodes
from pyqinfer.study.grid import parse_limit

ROOT = Path(__file__).parents[1]


def files(folder: str, *others: str) -> set[str]:
    """Names of a folder's modules and packages but ``others``."""
    packages = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    return ({path.stem for path in (ROOT / folder).glob("*.py")} | packages) - {"__init__", "registry", *others}


# ---- sources --------------------------------------------------------------------------------------------------------


def test_every_source_has_a_file_and_a_row() -> None:
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)
    assert set(names) == files("pyqinfer/frontend/sources", "source", "stand_ins")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_reads_something_and_has_its_tests_and_its_line_in_the_docs(source: Source) -> None:
    assert source != Source(source.name)
    assert (ROOT / "tests" / f"test_frontend_{source.name}.py").is_file()
    assert f"| `{source.name}` |" in (ROOT / "docs" / "sources.md").read_text()


def test_no_operator_has_two_handlers() -> None:
    names = [f"aten::{op}" for family in aten.FAMILIES for op in family.HANDLERS]
    names += [op for source in SOURCES for op in source.handlers]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_every_family_of_operators_is_in_the_table() -> None:
    assert {family.__name__.rpartition(".")[2] for family in aten.FAMILIES} == files(
        "pyqinfer/frontend/aten", "build", "infinities", "one_row", "per_channel"
    )


# ---- methods --------------------------------------------------------------------------------------------------------


def test_every_method_has_a_file_and_a_row() -> None:
    assert sorted(row.word for row in METHODS) == sorted(files("pyqinfer/methods"))
    text = (ROOT / "pyqinfer" / "methods" / "registry.py").read_text()
    assert [row.name for row in METHODS if f"import {row.name} as {row.name}\n" not in text] == []  # for type checkers


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.word)
def test_every_method_is_public_and_says_what_it_reads(row: MethodRow) -> None:
    method = row.load()
    assert getattr(pq, row.name) is method
    assert row.name in pq.__all__
    assert dataclasses.is_dataclass(method)
    assert method.needs <= method.reads <= {"calibration", "budget", "train", "val"}
    assert ("budget" in method.reads) == hasattr(method, "allocate")


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.word)
def test_every_method_has_its_tests_its_help_and_its_paragraph_in_the_docs(row: MethodRow) -> None:
    assert (ROOT / "tests" / f"test_{row.word}.py").is_file()
    text = (ROOT / "docs" / "methods.md").read_text()
    assert f"`pq.{row.name}(" in text
    assert f"\n**{row.name}**" in text
    assert row.trains == ("train" in row.load().needs)
    for command in ("train",) if row.trains else ("quantize", "pareto"):
        assert row.word in CliRunner().invoke(app, [command, "--help"]).stdout


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)).eval()


BATCHES = [torch.zeros(4, 3, 8, 8)]
GIVEN: dict[str, Any] = {"calibration": BATCHES, "budget": pq.Budget(avg_weight_bits=6), "train": BATCHES, "val": BATCHES}


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.word)
def test_a_method_refuses_what_it_does_not_read_and_asks_for_what_it_needs(net: nn.Module, row: MethodRow) -> None:
    method = row.load()
    wrong = {name: method.needs | {name} for name in GIVEN if name not in method.reads}
    wrong |= {name: method.needs - {name} for name in method.needs}
    for what, names in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"{what}: "):
            pq.quantize(net, method(), example_inputs=(BATCHES[0],), **{name: GIVEN[name] for name in names})


# ---- costs of a budget ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_every_cost_can_be_limited_from_everywhere_and_is_in_the_docs(cost: Cost) -> None:
    budget = pq.Budget(**{cost.name: 0.5})
    assert budget.costs == (cost,)
    assert str(budget) == cost.limit.format(0.5)
    assert parse_limit(f"{cost.word}=0.5").budget() == budget
    for example in cost.examples.split(" or "):
        assert parse_limit(example.partition(" (")[0]).budget(int8_ms=1.0).costs == (cost,)
    assert f"{cost.name}=" in (ROOT / "docs" / "methods.md").read_text()


def test_every_cost_has_its_function_or_is_measured_and_its_option() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    names = [cost.name for cost in COSTS]
    assert {*budget_costs(quantizable_nodes(TracedModel(net, (torch.zeros(1, 3, 8, 8),)))), LATENCY} == set(names)
    assert list(BUDGET_OPTIONS) == names
    assert [field.name for field in dataclasses.fields(pq.Budget)] == [*names, "threads", "isa"]
