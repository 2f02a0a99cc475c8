"""Measures how long each layer of a session takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pyqinfer.measure.candidates import as_session, positional_arrays
from pyqinfer.measure.trace import write_trace
from pyqinfer.report import Cell, Column, Report

_SHOWN_KINDS = 4  # of ops, in the note about where the time goes


def profile(
    model: Any,
    inputs: Any,
    repeat: int = 20,
    threads: int | None = None,
    isa: str = "auto",
    trace: str | os.PathLike[str] | None = None,
) -> Report:
    """Median time of every layer over ``repeat`` runs, in the order of execution.

    Args:
        model: a Session, a Model, the path of a file, or a torch module, which is converted for the inputs.
        inputs: positional inputs, numpy arrays or torch CPU tensors; one alone needs no tuple.
        repeat: number of runs, at least 1.
        trace: a file for the same as a Chrome trace, see :func:`~pyqinfer.measure.trace.write_trace`.
        threads, isa: see :class:`pyqinfer.Session`; a session that is given keeps its own.

    Returns:
        Columns: layer, op, executed as, p50 in ms, share of the total in %, GMAC/s, and why it is executed so.
    """
    if repeat < 1:
        raise ValueError(f"repeat: expected at least 1, got {repeat}")
    given = positional_arrays(inputs)
    session = as_session(model, given, threads, isa)
    arrays, _ = session.arrays(session.name_inputs(given))
    times = dict(session.native.profile(arrays, repeat, session.run_options.max_memory or 0, session.run_options.cancel))
    costs = {cost.name: cost for cost in session.model.layer_costs({name: a.shape for name, a in arrays.items()})}
    executed = {layer["name"]: layer for layer in session.layers()}
    total = sum(times.values())
    rows: list[dict[str, str | int | float | None]] = []
    for name, ms in times.items():
        cost, layer = costs[name], executed[name]
        rows.append(
            {
                "name": name,
                "op": cost.op,
                "executed_as": layer["executed_as"],
                "p50_ms": ms,
                "share_percent": 100 * ms / total if total else 0.0,
                "macs_per_s": cost.macs / ms * 1e3 if cost.macs and ms else None,
                "reason": layer["reason"],
            }
        )
    columns = [
        Column("name", "layer", numeric=False),
        Column("op", "op", numeric=False),
        Column("executed_as", "executed as", numeric=False),
        Column("p50_ms", "p50 ms", ".4f"),
        Column("share_percent", "%", ".1f"),
        Column("macs_per_s", "GMAC/s", ".1f", scale=1e9),
        Column("reason", "why", numeric=False),
    ]
    facts = {"isa": session.isa, "threads": session.threads, "repeat": repeat, "total_ms": total, **session.memory()}
    report = Report(f"Profile ({session.isa}, {session.threads} threads)", columns, rows, facts, _notes(rows, total, session.memory()))
    if trace is not None:
        write_trace(report, trace)
    return report


def _notes(rows: Sequence[Mapping[str, Cell]], total: float, memory: Mapping[str, int]) -> list[str]:
    """The sum of the layers, the time by kind of op and of what runs in float, and the memory."""
    kinds: dict[str, float] = {}
    in_float = 0.0
    for row in rows:
        ms = float(row["p50_ms"] or 0)
        kinds[str(row["op"])] = kinds.get(str(row["op"]), 0.0) + ms
        in_float += ms if str(row["reason"]).startswith("in float") else 0.0
    largest = sorted(kinds.items(), key=lambda item: -item[1])[:_SHOWN_KINDS]
    share = 100 / total if total else 0.0
    notes = [f"sum of layers: {total:.3f} ms; " + ", ".join(f"{op} {ms * share:.0f} %" for op, ms in largest)]
    if in_float:
        notes.append(f"{in_float * share:.0f} % of the time is spent in float; the column why says for what reason")
    notes.append(f"packed weights {memory['weight_bytes']:,} bytes, values between layers and scratch {memory['arena_bytes']:,} bytes")
    return notes
