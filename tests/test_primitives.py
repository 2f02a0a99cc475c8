"""The list of primitives for a new ISA (csrc/kernels/generic/primitives.h) names what the loop nests use, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

GENERIC = Path(__file__).resolve().parent.parent / "csrc" / "kernels" / "generic"
LIST = GENERIC / "primitives.h"
ROW = re.compile(r"^\s*PQI_(?:TYPE\(|FUNCTION\(|TEMPLATE\(|CONSTANT\(\w+, )(\w+)", re.MULTILINE)
COMMENT = re.compile(r"//.*")
# S: an ISA's struct; M: its matrix registers.
USE = re.compile(r"\b(?:S::Matrix|S|M)::(?:template\s+)?(\w+)")


def test_the_list_of_primitives_is_what_the_loop_nests_use() -> None:
    listed = set(ROW.findall(LIST.read_text().split("// clang-format off")[1]))
    used: set[str] = set()
    for path in GENERIC.glob("*.h"):
        if path != LIST:
            used |= set(USE.findall(COMMENT.sub("", path.read_text())))
    assert sorted(used - listed) == []
    assert sorted(listed - used) == []
