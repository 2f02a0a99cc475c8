"""docs/coverage.md, written from the rows of a sweep: a line a model, totals a package, and what is refused with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

from benchmarks.coverage.case import Outcome
from benchmarks.coverage.sources import PACKAGES

_TITLES = {
    "torchvision": "torchvision: classification, segmentation, detection up to the heads' raw outputs, video, optical flow",
    "timm": "timm: a small member of each family",
    "transformers": "transformers: small configurations",
    "layers": "Networks written for one kind of layer",
}
_MOST_SECONDS, _MOST_MB = 60, 4096
_OK = ("open", "fixed")

_Row = Mapping[str, Outcome]  # the outcomes of one model, by form


def page(outcomes: Sequence[Outcome]) -> str:
    """The page as Markdown."""
    rows: dict[tuple[str, str], dict[str, Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.package, outcome.name), {})[outcome.form] = outcome
    packages = {package: {name: row for (p, name), row in rows.items() if p == package} for package in PACKAGES}
    packages = {package: found for package, found in packages.items() if found}
    return "\n".join([*_head(), *_totals(packages), *(line for item in packages.items() for line in _package(*item)), *_refused(outcomes)])


def _head() -> list[str]:
    return [
        "# Coverage",
        "",
        "Written by `python -m benchmarks.coverage --page docs/coverage.md`, by no hand. Networks that were not written for this engine,",
        "with random weights, in small configurations where a package has any. Each is converted in float, with `pq.PTQ()` (8 bits), and",
        'many with `pq.PTQ(activations="dynamic")`, with the self-check of `pq.convert`, on one thread, in a process of its own.',
        "",
        "- **float**, **PTQ**, **dynamic**: it converts and agrees with torch. The last two say the share of multiply-adds in integers.",
        "- **batch**: `any`, or `fixed` where only the examples' batch can be had.",
        "- **seconds**, **MB**: of all conversions, the largest one: processor time, and memory of the whole process, torch included.",
        "",
        f"Versions: {', '.join(_versions())}.",
        "",
    ]


def _versions() -> list[str]:
    found = []
    for package in ("torch", "torchvision", "timm", "transformers"):
        try:
            found.append(f"{package} {metadata.version(package).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _totals(packages: Mapping[str, Mapping[str, _Row]]) -> list[str]:
    lines = ["| package | models | float | PTQ | dynamic | any batch | over 60 s | over 4 GB |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for package, rows in packages.items():
        tried = [outcome for row in rows.values() for outcome in row.values()]
        counts = (
            len(rows),
            sum(_converts(row, "float") for row in rows.values()),
            sum(_converts(row, "static") for row in rows.values()),
            _of_tried(row.get("dynamic") for row in rows.values()),
            sum(_batch(row) == "any" for row in rows.values()),
            sum(outcome.seconds > _MOST_SECONDS for outcome in tried),
            sum(outcome.peak_mb > _MOST_MB for outcome in tried),
        )
        lines.append(f"| {package} | {' | '.join(map(str, counts))} |")
    return [*lines, ""]


def _package(package: str, rows: Mapping[str, _Row]) -> list[str]:
    lines = [f"## {_TITLES[package]}", "", "| model | float | PTQ | dynamic | batch | seconds | MB |", "|---|---|---|---|---|---:|---:|"]
    for name, row in rows.items():
        shares = " | ".join(_share(row.get(form)) for form in ("static", "dynamic"))
        seconds, memory = max(o.seconds for o in row.values()), max(o.peak_mb for o in row.values())
        lines.append(f"| {name} | {_word(row.get('float'))} | {shares} | {_batch(row)} | {seconds:.0f} | {memory:.0f} |")
    return [*lines, ""]


def _share(outcome: Outcome | None) -> str:
    return f"{100 * outcome.integers:.0f} %" if outcome is not None and outcome.how in _OK else _word(outcome)


def _of_tried(outcomes: Iterable[Outcome | None]) -> str:
    tried = [outcome for outcome in outcomes if outcome is not None]
    return f"{sum(outcome.how in _OK for outcome in tried)} of {len(tried)} tried"


def _converts(row: _Row, form: str) -> bool:
    return form in row and row[form].how in _OK


def _batch(row: _Row) -> str:
    found = {outcome.how for outcome in row.values() if outcome.how in _OK}
    return "" if not found else "fixed" if "fixed" in found else "any"


def _word(outcome: Outcome | None) -> str:
    return "" if outcome is None else "yes" if outcome.how in _OK else outcome.how


def _refused(outcomes: Sequence[Outcome]) -> list[str]:
    refused = [outcome for outcome in outcomes if outcome.how not in _OK]
    if not refused:
        return []
    lines = ["## What is refused", "", "| package | model | form | reason |", "|---|---|---|---|"]
    return [*lines, *(f"| {o.package} | {o.name} | {o.form} | {first_reason(o.reason)} |" for o in refused), ""]


def first_reason(reason: str) -> str:
    """The first operation that a reason names, or its first line, without what would break a table."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    named = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    text = (named or lines or [""])[0].replace("|", "/")
    return text.partition(" (/")[0][:160]
