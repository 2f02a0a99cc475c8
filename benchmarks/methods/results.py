"""The JSON that docs/methods.md quotes, its tables, and the check list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.methods.claims import Claim
from pyqinfer.report import Column, Report
from pyqinfer.study.rows import Row, write_json

FORMAT = "pyqinfer-methods/1"
TRAINING_FORMAT = "pyqinfer-training/1"
SCENES_FORMAT = "pyqinfer-scenes/1"


E = TypeVar("E")
R = TypeVar("R")


def collected(entries: Iterable[E], row: Callable[[E], R | None], keep: Callable[[list[R]], None]) -> list[R]:
    """The rows of all entries that have one. ``keep`` gets those so far after each, so that an interrupted run loses none."""
    rows: list[R] = []
    for entry in entries:
        found = row(entry)
        if found is not None:
            rows.append(found)
            keep(rows)
    return rows


def network_result(title: str, record: Mapping[str, Any], facts: Mapping[str, Any], rows: Sequence[Row], found: Sequence[Claim]) -> Any:
    """One network's part of the JSON."""
    return {
        "title": title,
        "trained": dict(record),
        "facts": dict(facts),
        "rows": [row.to_dict() for row in rows],
        "claims": [asdict(claim) for claim in found],
    }


def save(path: Path, conditions: Mapping[str, Any], networks: Mapping[str, Any], kind: str = FORMAT) -> None:
    """Write the JSON of a kind of experiment. Networks of an earlier run that this one leaves out stay in it."""
    write_json(path, {"format": kind, **conditions, "networks": {**earlier(path, kind), **networks}})


def earlier(path: Path, kind: str) -> dict[str, Any]:
    """The networks that a results file of that kind holds; none where there is no such file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(content.get("networks", {})) if content.get("format") == kind else {}


def with_earlier(made: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows of this run and those of an earlier one that it leaves out, by their names in ``order``; names that are not there come last."""
    rows = {row["name"]: row for row in (*before, *made)}
    return sorted(rows.values(), key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))


def claims_report(found: Sequence[Claim]) -> Report:
    """What holds and what does not."""
    words = {True: "yes", False: "NO", None: "-"}
    columns = [
        Column("text", "measured", numeric=False),
        Column("value", "value", ".3f"),
        Column("unit", "unit", numeric=False),
        Column("holds", "as expected", numeric=False),
    ]
    rows = [{"text": claim.text, "value": claim.value, "unit": claim.unit, "holds": words[claim.holds]} for claim in found]
    return Report(f"What the rows say: {found[0].network if found else ''}", columns, rows)
