"""Every check of the validator disabled, one at a time: some C++ test must fail each time.

``python tests/mutation_check.py`` compiles a copy of csrc/ in which each place that refuses something asks first whether it is the one that
is disabled (an environment variable), and runs the tests once for each of them. It prints the places that no test holds, and fails if
there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
FOLDERS = ("codec", "format", "graph", "ops")
# The fastest first: most places are held by one of the first two.
TESTS = ("format_test", "graph_test", "codec_test", "runtime_test")

HEADER = """#pragma once
#include <cstdlib>
namespace pqi {
inline bool Disabled(int place) {
  static const char* const chosen = std::getenv("PQI_DISABLED_CHECK");
  static const int number = chosen ? std::atoi(chosen) : -1;
  return place == number;
}
}  // namespace pqi
"""

# How a refusal looks in the source, and how the same looks with a question before it.
PATTERNS = (
    # return ModelFormat(...): the function goes on to say that all is well.
    (
        re.compile(r"\breturn (?=(?:ModelFormat|Integrity|Unsupported|InvalidArgument|NodeError|Refused)\()"),
        "return Disabled({n}) ? Status() : ",
    ),
    # ok || Fail(...), return Fail(...) in functions that say whether to go on.
    (re.compile(r"(?<=\|\| )(?=Fail\()"), "Disabled({n}) || "),
    (re.compile(r"\breturn (?=Fail\()"), "return Disabled({n}) || "),
    # Fail(...) of the reader of attributes, which keeps the first error.
    (re.compile(r"(?<=[ (])(?=(?:attrs(?:\.|->))?Fail\([\"s(])(?<!\|\| )(?<!return )"), "if (!Disabled({n})) "),
)


def instrument(text: str, first: int) -> tuple[str, list[int]]:
    """Give the source with its refusals numbered from ``first``, and the lines that they stand in."""
    places = sorted(
        (match.start(), template) for pattern, template in PATTERNS for match in pattern.finditer(text) if _is_code(text, match.start())
    )
    out, at, lines = [], 0, []
    for i, (start, template) in enumerate(places):
        keep = "return " if template.startswith("return ") else ""
        out += [text[at:start], template.format(n=first + i)]
        at = start + len(keep)
        lines.append(text.count("\n", 0, start) + 1)
    return "".join([*out, text[at:]]), lines


def _is_code(text: str, at: int) -> bool:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return "//" not in line and not re.match(r"\s*(bool|void|Status) \S*$", line)


def prepare() -> list[str]:
    """Write the instrumented copy; gives each place as ``file:line``."""
    shutil.rmtree(WORK / "csrc", ignore_errors=True)
    for name in ("csrc", "cmake", "tests/golden", "tests/published.py"):
        source, target = ROOT / name, WORK / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
    shutil.copy(ROOT / "CMakeLists.txt", WORK)
    (WORK / "csrc" / "base" / "disabled.h").write_text(HEADER)
    places: list[str] = []
    for folder in FOLDERS:
        for path in sorted((WORK / "csrc" / folder).glob("*.cc")):
            text, lines = instrument(path.read_text(), len(places))
            if lines:
                path.write_text('#include "base/disabled.h"\n' + text)
            places += [f"csrc/{folder}/{path.name}:{line}" for line in lines]
    return places


def build(jobs: int) -> Path:
    tree = WORK / "build" / "cxx"
    environment = {**os.environ, "CCACHE_BASEDIR": str(WORK), "CCACHE_NOHASHDIR": "1"}
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    subprocess.run(
        [
            "cmake",
            "-S",
            WORK,
            "-B",
            tree,
            "-G",
            "Ninja",
            "-DPYQINFER_BUILD_TESTS=ON",
            "-DPYQINFER_BUILD_TOOLS=OFF",
            "-DPYQINFER_BUILD_SHARED=OFF",
            *launcher,
        ],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(["cmake", "--build", tree, "-j", str(jobs), "--target", *TESTS], check=True, env=environment)
    return tree


def held_by(tree: Path, place: int) -> str | None:
    """Give the first test executable that fails where a place is disabled (-1: none is); None where all pass."""
    environment = {**os.environ, "PQI_DISABLED_CHECK": str(place)}
    for name in TESTS:
        path = next((tree / "csrc" / "tests").rglob(name))
        try:
            done = subprocess.run([path, "--gtest_fail_fast"], env=environment, capture_output=True, timeout=120)
        except subprocess.TimeoutExpired:
            return name
        if done.returncode != 0:
            return name
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    places = prepare()
    tree = build(options.jobs)
    broken = held_by(tree, -1)
    if broken:
        sys.exit(f"{broken} fails with every check in place")
    with ThreadPoolExecutor(options.jobs) as pool:
        holders = pool.map(lambda place: held_by(tree, place), range(len(places)))
        free = 0
        for place, holder in zip(places, holders, strict=True):
            if holder is None:
                free += 1
                print(f"{place}: no test fails where this check is disabled", flush=True)
    print(f"mutation check: {len(places) - free} of {len(places)} checks are held by a test")
    sys.exit(bool(free))


if __name__ == "__main__":
    main()
