"""docs/reliability.md says what the tests say."""

from __future__ import annotations

import reliability


def test_the_table_names_the_tests_that_there_are() -> None:
    assert reliability.TABLE.read_text() == reliability.table(), "run: python tests/reliability.py --write"


def test_every_number_that_a_test_holds_is_a_row() -> None:
    rows = {match[1] for match in reliability.LINE.finditer(reliability.TABLE.read_text())}
    assert len(rows) == 201
    assert set(reliability.holders()) <= rows
