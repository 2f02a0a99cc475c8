"""The tables of docs/methods.md, written from the JSON of a run, so that no figure in it was typed.

python -m benchmarks.methods.document benchmarks/results/2026-11-24-methods.json docs/methods.md
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.methods.claims import Claim
from pyqinfer.study.evaluate import Accuracy
from pyqinfer.study.rows import Row

_BLOCK = re.compile(r"(<!-- (rows|claims): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Mapping[str, Any]) -> str:
    """The document with every block between ``<!-- rows: NETWORK -->`` (or ``claims``) and ``<!-- end -->`` written anew.

    Raises:
        ValueError: a block of a network that the results lack.
    """

    def block(match: re.Match[str]) -> str:
        kind, name = match[2], match[3]
        if name not in results["networks"]:
            raise ValueError(f"the document has a block of {name}, the results have {', '.join(results['networks'])}")
        network = results["networks"][name]
        lines = rows_table(network) if kind == "rows" else claims_list(network)
        return "\n".join([match[1], *lines, "", match[4]])

    return _BLOCK.sub(block, text)


def rows_table(network: Mapping[str, Any]) -> list[str]:
    """A markdown table of a network's rows, and why others are missing."""
    rows = [Row.from_dict(content) for content in network["rows"]]
    isas = list(dict.fromkeys(isa for row in rows for isa in row.latency_ms))
    names = {"auto": network["facts"]["isa"]}
    headings = ["", "bits w/a", "top-1 %", "torch", "exact", "BOPs (G)", "file (kB)", *(f"ms ({names.get(isa, isa)})" for isa in isas)]
    lines = [f"| {' | '.join(headings)} |", "|---|" + "---|" * (len(headings) - 1)]
    for row in rows:
        if not row.ok or row.accuracy is None:
            continue
        bits = "" if row.weight_bits is None or row.act_bits is None else f"{row.weight_bits:.2f}/{row.act_bits:.2f}"
        cells = [row.name, bits, f"{row.accuracy.top1:.2f}", *_alike(row.accuracy)]
        cells += ["" if row.bops is None else f"{row.bops / 1e9:.3f}", "" if row.bytes is None else f"{row.bytes / 1e3:.0f}"]
        cells += [f"{row.latency_ms[isa]:.3f}" if isa in row.latency_ms else "" for isa in isas]
        lines.append(f"| {' | '.join(cells)} |")
    failed = [f"{row.name}: {row.status}" for row in rows if not row.ok]
    return [*lines, *(["", *(f"{text}  " for text in failed)] if failed else [])]


def _alike(accuracy: Accuracy) -> list[str]:
    """On how many of the images that torch has seen the engine gives the class of the graph as it is, and of that with exact sums."""
    seen = accuracy.torch_images
    counts = [accuracy.different if seen else None, accuracy.exact_different]
    return ["" if count is None else f"{seen - count:,} of {seen:,}" for count in counts]


def claims_list(network: Mapping[str, Any]) -> list[str]:
    """A markdown table of what the rows say."""
    words = {True: "yes", False: "**no**", None: ""}
    found = [Claim(**content) for content in network["claims"]]
    lines = ["| measured | value | images that only the first / only the second classes right | as expected |", "|---|---|---|---|"]
    pairs = ["" if claim.paired is None else f"{claim.paired[0]} / {claim.paired[1]}" for claim in found]
    cells = [(c.text, f"{c.value:.2f} {c.unit}", pair, words[c.holds]) for c, pair in zip(found, pairs, strict=True) if c.value is not None]
    return lines + [f"| {' | '.join(row)} |" for row in cells]


def main(arguments: list[str]) -> int:
    """Two paths: the results and the document, which is changed in place."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    results, document = (Path(argument) for argument in arguments)
    document.write_text(fill(document.read_text(encoding="utf-8"), json.loads(results.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
