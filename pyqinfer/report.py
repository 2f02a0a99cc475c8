"""Tables that every measurement returns: readable in a terminal, in markdown, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Column:
    """One column of a report.

    Args:
        key: its name in rows, CSV and JSON, which hold raw numbers. The unit is part of the name (``p50_ms``, ``top1_percent``) of what is
            neither a count, such as ``macs`` or ``bytes``, nor a ratio. docs/reports.md lists all names.
        heading: its name in tables, with the unit.
        spec: how a table prints a number, a format specification such as ".2f".
        numeric: whether it holds numbers, which tables align on the right.
        scale: by which a table divides the number, such as 1e6 under "MACs (M)".
    """

    key: str
    heading: str
    spec: str = ""
    numeric: bool = True
    scale: float = 1

    def text(self, value: Cell) -> str:
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        return format(value if self.scale == 1 else value / self.scale, self.spec)


@dataclass(frozen=True)
class Report:
    """A titled table. ``rows`` hold raw values under the columns' keys; ``facts`` say under which conditions they were taken."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def _cells(self) -> list[list[str]]:
        return [[column.text(row.get(column.key)) for column in self.columns] for row in self.rows]

    def table(self) -> str:
        """Give text for a terminal, with columns aligned."""
        headings = [column.heading for column in self.columns]
        cells = self._cells()
        widths = [max(len(line[i]) for line in [headings, *cells]) for i in range(len(headings))]

        def line(texts: Sequence[str]) -> str:
            padded = (
                text.rjust(width) if column.numeric else text.ljust(width)
                for text, width, column in zip(texts, widths, self.columns, strict=True)
            )
            return "  ".join(padded).rstrip()

        rule = "  ".join("─" * width for width in widths)
        parts = [self.title, "", line(headings), rule, *(line(row) for row in cells)]
        if self.notes:
            parts += ["", *self.notes]
        return "\n".join(parts)

    def to_markdown(self) -> str:
        """Give a GitHub-flavoured markdown table with title and notes."""
        lines = [f"**{self.title}**", ""]
        lines.append("| " + " | ".join(column.heading for column in self.columns) + " |")
        lines.append("|" + "|".join("---:" if column.numeric else ":---" for column in self.columns) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in self._cells()]
        if self.notes:
            lines += ["", *(f"{note}  " for note in self.notes)]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """Give raw values under the columns' keys."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.key for column in self.columns])
        writer.writerows([[row.get(column.key) for column in self.columns] for row in self.rows])
        return out.getvalue()

    def to_json(self) -> str:
        """Give ``{"title", "facts", "rows", "notes"}``, which scripts can rely on."""
        content = {"title": self.title, "facts": dict(self.facts), "rows": [dict(row) for row in self.rows]}
        return json.dumps({**content, "notes": list(self.notes)}, indent=1)

    def render(self, style: str) -> str:
        """Give the report in a style: ``table``, ``md``, ``csv`` or ``json``."""
        makers = {"table": self.table, "md": self.to_markdown, "csv": self.to_csv, "json": self.to_json}
        if style not in makers:
            raise ValueError(f"unknown output style {style!r}: choose one of {', '.join(makers)}")
        return makers[style]()

    def __str__(self) -> str:
        return self.table()
