"""The table of docs/reliability.md: what can go wrong, by number, and the tests that hold it.

Tests say what they hold: a row of a table of cases begins with the number (``"F24 empty name"``), a comment above a test lists numbers
(``// Holds H1, H2.``, ``# Holds A4.``). ``python tests/reliability.py --write`` writes the last column of the table; a test compares.
A row whose last column begins with a dash says why no test holds it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "reliability.md"
LINE = re.compile(r"^\| ([A-K]\d+) \| (.*?) \| (.*?) ?\|$", re.MULTILINE)
CASE = re.compile(r'"([A-K]\d{1,2}) [^"]+"')
COMMENT = re.compile(r"(?://|#) (?:Holds )?((?:[A-K]\d{1,2}, )*[A-K]\d{1,2})\.?$", re.MULTILINE)
TEST = re.compile(r"^(?:TEST(?:_F|_P)?\((\w+), (\w+)\)|def (test_\w+))", re.MULTILINE)


def holders() -> dict[str, list[str]]:
    """Give the tests that hold each number, as ``file: test``; for a row of a table of cases ``file: rows``."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted([*ROOT.glob("csrc/tests/**/*.cc"), *ROOT.glob("tests/**/test_*.py")]):
        text = path.read_text()
        for match in CASE.finditer(text):
            found[match[1]].add(f"{path.name}: rows")
        for match in COMMENT.finditer(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            test = TEST.match(line) or TEST.search(text, match.end())
            if test:
                for number in match[1].split(", "):
                    found[number].add(f"{path.name}: {test[2] or test[3]}")
    return {number: sorted(tests) for number, tests in found.items()}


def table() -> str:
    """Give docs/reliability.md with its last column as the tests have it."""
    found = holders()

    def row(match: re.Match[str]) -> str:
        tests = ", ".join(f"`{test}`" for test in found.get(match[1], []))
        return f"| {match[1]} | {match[2]} | {tests or (match[3] if match[3].startswith('-') else '')} |"

    return LINE.sub(row, TABLE.read_text())


def empty() -> list[str]:
    """Give the numbers that no test holds and that do not say why."""
    return [match[1] for match in LINE.finditer(TABLE.read_text()) if not match[3]]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        TABLE.write_text(table())
    rows = len(LINE.findall(TABLE.read_text()))
    print(f"{rows} rows, {len(empty())} without a test: {', '.join(empty())}")
