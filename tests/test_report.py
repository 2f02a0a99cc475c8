"""Reports: the same rows as text, markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pyqinfer.report import Column, Report

REPORT = Report(
    "Latency",
    [Column("name", "model", numeric=False), Column("ms", "p50 ms", ".2f"), Column("speedup", "speed-up", ".1f")],
    [{"name": "fp32", "ms": 10.0, "speedup": None}, {"name": "int8", "ms": 2.5, "speedup": 4.0}],
    {"threads": 1},
    ["against fp32"],
)


def test_table_aligns_columns_and_prints_a_dash_for_nothing() -> None:
    lines = REPORT.table().splitlines()
    assert lines[2:6] == [
        "model  p50 ms  speed-up",
        "─────  ──────  ────────",
        "fp32    10.00         -",
        "int8     2.50       4.0",
    ]
    assert lines[-1] == "against fp32"


def test_markdown_marks_numeric_columns_right_aligned() -> None:
    assert "|:---|---:|---:|" in REPORT.to_markdown()
    assert "| int8 | 2.50 | 4.0 |" in REPORT.to_markdown()


def test_csv_and_json_keep_raw_values() -> None:
    assert list(csv.reader(io.StringIO(REPORT.to_csv()))) == [["name", "ms", "speedup"], ["fp32", "10.0", ""], ["int8", "2.5", "4.0"]]
    assert json.loads(REPORT.to_json()) == {
        "title": "Latency",
        "facts": {"threads": 1},
        "rows": [{"name": "fp32", "ms": 10.0, "speedup": None}, {"name": "int8", "ms": 2.5, "speedup": 4.0}],
        "notes": ["against fp32"],
    }


@pytest.mark.parametrize("style", ["table", "md", "csv", "json"])
def test_render_gives_each_style(style: str) -> None:
    assert "int8" in REPORT.render(style)


def test_render_refuses_an_unknown_style() -> None:
    with pytest.raises(ValueError, match="unknown output style 'yaml'"):
        REPORT.render("yaml")
