"""A profile as a Chrome trace, which Perfetto (ui.perfetto.dev) and chrome://tracing draw."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyqinfer.report import Report

_TIMES = ("p50_ms", "share_percent")


def write_trace(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the layers of a profile one after the other, each as long as its median time, in microseconds.

    The session's threads share every layer, so there is one track, which is called by their number. Operation, algorithm, speed and
    reason of a layer are its arguments, which a click shows.

    Args:
        report: what :func:`pyqinfer.profile` gave.
        path: of the JSON file.
    """
    threads = report.facts["threads"]
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": report.title}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": f"layers, {threads} thread{'s' if threads > 1 else ''}"}},
    ]
    start = 0.0
    for row in report.rows:
        duration = 1e3 * float(row["p50_ms"] or 0)
        arguments = {key: value for key, value in row.items() if value not in (None, "") and key not in _TIMES}
        events.append(
            {"ph": "X", "pid": 1, "tid": 1, "name": row["name"], "cat": row["op"], "ts": start, "dur": duration, "args": arguments}
        )
        start += duration
    Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(report.facts)}, indent=1))
