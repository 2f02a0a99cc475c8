"""The tables of docs/methods.md, written from the JSON of a run, so that no figure in it was typed.

python -m benchmarks.methods.document benchmarks/results/2026-11-24-methods.json docs/methods.md

Each kind of JSON fills blocks of its own: ``rows`` and ``claims`` from `benchmarks.methods`, ``trained`` and ``trained-claims`` from
`benchmarks.methods.training`, ``scenes`` from `benchmarks.methods.scenes`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.methods.claims import Claim
from benchmarks.methods.results import FORMAT, SCENES_FORMAT, TRAINING_FORMAT
from pyqinfer.study.evaluate import Accuracy
from pyqinfer.study.rows import Row

_BLOCK = re.compile(r"(<!-- (rows|claims|trained|trained-claims|scenes): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Mapping[str, Any]) -> str:
    """The document with every block between ``<!-- KIND: NETWORK -->`` and ``<!-- end -->`` that such results fill written anew.

    Raises:
        ValueError: a block of a network that the results lack.
    """
    writers = _WRITERS[results.get("format", FORMAT)]

    def block(match: re.Match[str]) -> str:
        kind, name = match[2], match[3]
        if kind not in writers:
            return match[0]
        if name not in results["networks"]:
            raise ValueError(f"the document has a block of {name}, the results have {', '.join(results['networks'])}")
        return "\n".join([match[1], *writers[kind](results["networks"][name]), "", match[4]])

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
    isa = network["facts"]["isa"]
    found = [Claim(**{**content, "text": content["text"].replace("(auto)", f"({isa})")}) for content in network["claims"]]
    lines = ["| measured | value | images that only the first / only the second classes right | as expected |", "|---|---|---|---|"]
    pairs = ["" if claim.paired is None else f"{claim.paired[0]} / {claim.paired[1]}" for claim in found]
    cells = [(c.text, f"{c.value:.2f} {c.unit}", pair, words[c.holds]) for c, pair in zip(found, pairs, strict=True) if c.value is not None]
    return lines + [f"| {' | '.join(row)} |" for row in cells]


def trained_table(network: Mapping[str, Any]) -> list[str]:
    """A markdown table of rows that were trained, and of those that they start from; rows of several seeds are one line."""
    rows = {content["name"]: Row.from_dict(content) for content in network["rows"]}
    ok = {name: row for name, row in rows.items() if row.ok and row.accuracy is not None}
    isas = list(dict.fromkeys(isa for row in rows.values() for isa in row.latency_ms))
    names = {"auto": network["facts"]["isa"]}
    whole = ok["fp32"].bops if "fp32" in ok else None
    together: dict[str, list[str]] = {}
    for name in ok:
        together.setdefault(network["training"][name].get("base", name), []).append(name)
    headings = ["", "bits w/a", "top-1 %", "standard error", "seeds", "epochs x images", "BOPs (G)", "BOPs less by", "file (kB)"]
    headings += [f"ms ({names.get(isa, isa)})" for isa in isas]
    lines = [f"| {' | '.join(headings)} |", "|---|" + "---|" * (len(headings) - 1)]
    for base, members in together.items():
        row, facts = ok[members[0]], network["training"][members[0]]
        top1 = [accuracy.top1 for name in members if (accuracy := ok[name].accuracy) is not None]
        spread = f" ({min(top1):.2f} to {max(top1):.2f})" if len(top1) > 1 else ""
        seeds = ", ".join(str(network["training"][name]["seed"]) for name in members) if "seed" in facts else ""
        length = f"{facts['epochs']} x {facts['images'] or 'all'}" if "epochs" in facts else ""
        cells = [base, f"{row.weight_bits:.2f}/{row.act_bits:.2f}", f"{fmean(top1):.2f}{spread}", f"{facts['standard_error']:.2f}"]
        cells += [seeds, length, f"{(row.bops or 0) / 1e9:.3f}", f"{whole / row.bops:.1f}x" if whole and row.bops else ""]
        cells += [f"{(row.bytes or 0) / 1e3:.0f}", *(f"{row.latency_ms[isa]:.3f}" if isa in row.latency_ms else "" for isa in isas)]
        lines.append(f"| {' | '.join(cells)} |")
    failed = [f"{name}: {row.status}" for name, row in rows.items() if not row.ok]
    return [*lines, *(["", *(f"{text}  " for text in failed)] if failed else [])]


def scenes_table(network: Mapping[str, Any]) -> list[str]:
    """A markdown table of a task's rows."""
    rows = network["rows"]
    scores = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    timed = any(row["latency_ms"] for row in rows)
    headings = ["", "bits w/a", *(f"{name} %" for name in scores), "epochs", "seed", "BOPs (G)", "file (kB)"]
    headings += [f"ms ({network['facts']['isa']})"] if timed else []
    lines = [f"| {' | '.join(headings)} |", "|---|" + "---|" * (len(headings) - 1)]
    for row in rows:
        cells = [row["name"], f"{row['weight_bits']:.2f}/{row['act_bits']:.2f}", *(f"{row['scores'][name]:.2f}" for name in scores)]
        cells += ["" if row[key] is None else str(row[key]) for key in ("epochs", "seed")]
        cells += [f"{row['bops'] / 1e9:.3f}", f"{row['bytes'] / 1e3:.0f}"]
        cells += [f"{row['latency_ms']['auto']:.3f}" if row["latency_ms"] else ""] if timed else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


_WRITERS: dict[str, dict[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    FORMAT: {"rows": rows_table, "claims": claims_list},
    TRAINING_FORMAT: {"trained": trained_table, "trained-claims": claims_list},
    SCENES_FORMAT: {"scenes": scenes_table},
}


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
