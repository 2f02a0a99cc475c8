"""Holds every #include between folders of csrc/ against the DEPS in CMake, and against the one-way order of the folders; looks for circles
inside each folder.

Run by `make lint`. Exit code 1 and one line per violation.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent / "csrc"
LIBRARY = re.compile(r"pqi_object_library\(\s*(\w+)(.*?)\)", re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# What stands on top of the libraries and may use any of them.
TOP = ("api", "python", "tools", "tests", "bench", "fuzz")


def folder_order() -> list[str]:
    """The folders of csrc/ that are libraries, from the lowest to the highest."""
    found = re.search(r"foreach\(folder ([a-z ]+)\)", (CSRC / "CMakeLists.txt").read_text())
    if found is None:
        raise SystemExit("csrc/CMakeLists.txt: the ordered list of folders is gone")
    return found.group(1).split()


def declared_deps() -> dict[str, set[str]]:
    """Folder -> folders in its DEPS."""
    deps: dict[str, set[str]] = {}
    for path in CSRC.glob("*/CMakeLists.txt"):
        for folder, body in LIBRARY.findall(path.read_text()):
            words = re.sub(r"#.*", "", body).split()
            start = words.index("DEPS") + 1 if "DEPS" in words else len(words)
            stop = next((i for i in range(start, len(words)) if words[i].isupper()), len(words))
            deps[folder] = set(words[start:stop])
    return deps


def circles(folder: Path) -> list[str]:
    """One line per circle among the units of a folder: a unit is what has one name, x.h with x.cc."""
    uses: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".h", ".cc"):
            unit = str(path.relative_to(CSRC).with_suffix(""))
            inner = {str(Path(i).with_suffix("")) for i in INCLUDE.findall(path.read_text()) if (CSRC / i).is_relative_to(folder)}
            uses.setdefault(unit, set()).update(inner - {unit})
    found: dict[frozenset[str], str] = {}

    def follow(unit: str, trail: tuple[str, ...]) -> None:
        if unit in trail:
            circle = (*trail[trail.index(unit) :], unit)
            found.setdefault(frozenset(circle), " -> ".join(circle))
            return
        for used in sorted(uses.get(unit, ())):
            follow(used, (*trail, unit))

    for unit in uses:
        follow(unit, ())
    return [f"csrc/{folder.name}: a circle of includes: {text}" for text in found.values()]


def main() -> int:
    order = folder_order()
    deps = declared_deps()
    problems = [f"csrc/{folder}: not in the ordered list of csrc/CMakeLists.txt" for folder in deps if folder not in order]
    for folder in order:
        later = deps.get(folder, set()) & set(order[order.index(folder) :])
        problems += [f"csrc/{folder}: DEPS names {name}, which is not below it" for name in sorted(later)]
    for path in sorted(CSRC.rglob("*")):
        if path.suffix not in (".h", ".hpp", ".cc", ".cpp", ".inc"):
            continue
        folder = path.relative_to(CSRC).parts[0]
        if folder in TOP or folder == "include":
            continue
        for include in INCLUDE.findall(path.read_text()):
            target = include.split("/")[0]
            if "/" in include and target in (*order, *TOP) and target != folder and target not in deps.get(folder, set()):
                problems.append(f"{path.relative_to(CSRC.parent)}: includes {include}, but {target} is not in the DEPS of {folder}")
    for folder in order:
        problems += circles(CSRC / folder)
    print("\n".join(problems) if problems else f"includes of {len(deps)} folders agree with their DEPS, and none goes round in a circle")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
