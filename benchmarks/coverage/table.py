"""The table of a sweep: a line a model, a summary a package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.coverage.case import Outcome
from benchmarks.coverage.page import first_reason


def report(outcomes: Sequence[Outcome]) -> str:
    """Markdown: models with what came of each form, then counts."""
    lines = [
        "| package | model | form | batch | integers | seconds | MB | what stands in the way |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    for o in outcomes:
        share = f"{100 * o.integers:.1f} %" if o.how in ("open", "fixed") else ""
        lines.append(
            f"| {o.package} | {o.name} | {o.form} | {o.how} | {share} | {o.seconds:.1f} | {o.peak_mb:.0f} | {first_reason(o.reason)} |"
        )
    lines.append("")
    for package, form in dict.fromkeys((o.package, o.form) for o in outcomes):
        counts = Counter(o.how for o in outcomes if (o.package, o.form) == (package, form))
        lines.append(
            f"{package}, {form}: "
            + ", ".join(f"{counts[how]} {how}" for how in ("open", "fixed", "refused", "not built") if counts[how])
            + f" of {counts.total()}"
        )
    return "\n".join(lines)
