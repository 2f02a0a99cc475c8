"""The rooms of the project and who uses whom, as CMake's DEPS and the import rules say: two pictures for docs/architecture.md.

`python tests/structure.py` prints them, `--write` puts them into the page. tests/test_structure.py fails where the page says otherwise.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib
from check_includes import declared_deps, folder_order

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
# What stands on top of the libraries of csrc/ and may use any of them.
TOP = {"api": "C and C++ interface", "python": "bindings", "tools": "pqi"}


def direct_deps(deps: dict[str, set[str]]) -> dict[str, set[str]]:
    """Each folder with those of its dependencies that no other of its dependencies has in turn, so that a picture has few arrows."""

    def reachable(folder: str) -> set[str]:
        return deps[folder].union(*(reachable(used) for used in deps[folder]))

    return {folder: used - set().union(*(reachable(other) for other in used)) for folder, used in deps.items()}


def cpp_picture() -> str:
    """The folders of csrc/ as a Mermaid flow chart; an arrow goes from a folder to one that it uses."""
    order, deps = folder_order(), declared_deps()
    direct = direct_deps(deps)
    # Mermaid takes some words for its own, `graph` among them, so a node is called like its folder with an underscore.
    lines = ["flowchart RL", *(f'  {folder}_["{folder}"]' for folder in order)]
    lines += [f'  {folder}_["{folder}: {what}"]' for folder, what in TOP.items()]
    lines += [f"  {folder}_ --> {used}_" for folder in order for used in sorted(direct[folder], key=order.index)]
    lines += [f"  {folder}_ --> {order[-1]}_" for folder in TOP]
    return "\n".join(lines)


def python_picture() -> str:
    """The layers of pyqinfer/ as a Mermaid flow chart, from the lowest to the highest."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["name"] == "data moves one way")
    names = [layer.replace("pyqinfer.", "").replace(" | ", ", ") for layer in layers]
    nodes = [f'  {chr(ord("a") + i)}["{name}"]' for i, name in enumerate(names)]
    arrows = " --> ".join(chr(ord("a") + i) for i in range(len(names)))
    return "\n".join(["flowchart RL", *nodes, f"  {arrows}"])


PICTURES = {"csrc": cpp_picture, "pyqinfer": python_picture}


def block(name: str) -> str:
    """What stands between the markers of a picture in the page."""
    return f"<!-- structure: {name} -->\n```mermaid\n{PICTURES[name]()}\n```\n<!-- end -->"


def with_pictures(page: str) -> str:
    """The page with every marked picture drawn anew."""
    for name in PICTURES:
        pattern = rf"<!-- structure: {name} -->.*?<!-- end -->"
        page, found = re.subn(pattern, lambda _, name=name: block(name), page, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{PAGE.name}: {found} places for the picture of {name}, expected one")
    return page


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(with_pictures(PAGE.read_text()))
    else:
        print("\n\n".join(f"{name}\n{draw()}" for name, draw in PICTURES.items()))
