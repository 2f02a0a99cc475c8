"""Measures how long each layer of a session takes."""

from __future__ import annotations

from typing import Any

from pyqinfer.measure.candidates import as_session, positional_arrays
from pyqinfer.report import Column, Report


def profile(model: Any, inputs: Any, repeat: int = 20, threads: int | None = None, isa: str = "auto") -> Report:
    """Median time of every layer over ``repeat`` runs, in the order of execution.

    Args:
        model: a Session, a Model, the path of a file, or a torch module, which is converted for the inputs.
        inputs: positional inputs, numpy arrays or torch CPU tensors; one alone needs no tuple.
        repeat: number of runs, at least 1.
        threads, isa: see :class:`pyqinfer.Session`; a session that is given keeps its own.

    Returns:
        Columns: layer, op, executed as, ms, share of the total in %, GMAC/s.
    """
    if repeat < 1:
        raise ValueError(f"repeat: expected at least 1, got {repeat}")
    given = positional_arrays(inputs)
    session = as_session(model, given, threads, isa)
    arrays, _ = session.arrays(session.name_inputs(given))
    times = dict(session.native.profile(arrays, repeat, session.run_options.max_memory or 0, session.run_options.cancel))
    costs = {cost.name: cost for cost in session.model.layer_costs({name: a.shape for name, a in arrays.items()})}
    executed = {layer["name"]: layer["executed_as"] for layer in session.layers()}
    total = sum(times.values())
    rows: list[dict[str, str | int | float | None]] = []
    for name, ms in times.items():
        cost = costs[name]
        rows.append(
            {
                "name": name,
                "op": cost.op,
                "executed_as": executed[name],
                "ms": ms,
                "share": 100 * ms / total if total else 0.0,
                "gmacs": cost.macs / ms / 1e6 if cost.macs and ms else None,
            }
        )
    columns = [
        Column("name", "layer", numeric=False),
        Column("op", "op", numeric=False),
        Column("executed_as", "executed as", numeric=False),
        Column("ms", "ms", ".4f"),
        Column("share", "%", ".1f"),
        Column("gmacs", "GMAC/s", ".1f"),
    ]
    facts = {"isa": session.isa, "threads": session.threads, "repeat": repeat, "total_ms": total}
    return Report(f"Profile ({session.isa}, {session.threads} threads)", columns, rows, facts, [f"sum of layers: {total:.3f} ms"])
