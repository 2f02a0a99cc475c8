"""Outcome of a race: rows, the table with ratios to the fastest peers, and the JSON that every published figure needs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.candidate import FP32, INT8
from benchmarks.peers.race import Protocol, Timing, Try
from pyqinfer.report import Cell, Column, Report

FORMAT = "pyqinfer-peers/1"
OK = "ok"

# A steady peak below this share of the undisturbed one belongs to a machine that is steadily busy with something else.
_QUIET = 0.93
_SHOWN_PERCENT = 1.0


@dataclass(frozen=True)
class Row:
    """One candidate in one race.

    Args:
        status: ``ok``, or why there is no time that counts.
        timing: the candidate's times; None unless it was timed.
        cosine: cosine between the candidate's output and torch's fp32 output; None if it never ran.
        settings: what the engine says is in effect.
    """

    name: str
    variant: str
    is_peer: bool
    status: str = OK
    timing: Timing | None = None
    cosine: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether others may be compared with it."""
        return self.status == OK and self.timing is not None


@dataclass(frozen=True)
class Race:
    """All candidates on one network with one number of threads."""

    model: str
    inputs: Sequence[Sequence[int]]  # their shapes
    threads: int
    macs: int
    load_average: float
    undisturbed_peak: float | None  # GMAC/s of so many threads with the machine to themselves
    rows: Sequence[Row]
    tries: Sequence[Try]

    def fastest_peer(self, variant: str) -> Row | None:
        """The fastest peer of that variant whose output is right; None if there is none."""
        peers = [row for row in self.rows if row.is_peer and row.variant == variant and row.counts]
        return min(peers, key=_median, default=None)

    def report(self, protocol: Protocol, peak_instruction: str) -> Report:
        """The table: times in ms, and each as a multiple of the fastest int8 and fp32 peer (below 1 is faster than the peer)."""
        peers = {variant: self.fastest_peer(variant) for variant in (INT8, FP32)}
        peak = self.tries[-1].peak() if self.tries else None
        columns = [
            Column("name", "candidate", numeric=False),
            Column("variant", "variant", numeric=False),
            Column("p50_ms", "p50 ms", ".2f"),
            Column("p90_ms", "p90 ms", ".2f"),
            Column("gmacs", "GMAC/s", ".1f"),
            Column("of_peak", "% of peak", ".1f"),
            Column("to_int8", "x int8 peer", ".2f"),
            Column("to_fp32", "x fp32 peer", ".2f"),
            Column("cosine", "cosine", ".5f"),
            Column("status", "status", numeric=False),
        ]
        rows = [self._cells(row, peers, peak) for row in self.rows]
        title = f"{self.model}, {' and '.join('x'.join(map(str, shape)) for shape in self.inputs)}, threads {self.threads}"
        return Report(title, columns, rows, {"threads": self.threads}, self._notes(peers, protocol, peak_instruction))

    def _cells(self, row: Row, peers: Mapping[str, Row | None], peak: float | None) -> dict[str, Cell]:
        cells: dict[str, Cell] = {"name": row.name, "variant": row.variant, "cosine": row.cosine}
        cells["status"] = row.status.partition(":")[0]  # the reason is a note below the table
        if row.timing is None:
            return cells
        gmacs = self.macs / row.timing.median / 1e6
        return {
            **cells,
            "p50_ms": row.timing.median,
            "p90_ms": row.timing.p90,
            "gmacs": gmacs,
            "of_peak": 100 * gmacs / peak if peak and row.variant != FP32 else None,
            "to_int8": _ratio(row, peers[INT8]),
            "to_fp32": _ratio(row, peers[FP32]),
        }

    def _notes(self, peers: Mapping[str, Row | None], protocol: Protocol, instruction: str) -> list[str]:
        notes = [f"{row.name}: {row.status}" for row in self.rows if not row.counts]
        notes += [f"{row.name}: its time is {_shares(row)}" for row in self.rows if row.counts and "percent_of_time" in row.settings]
        for row in self.rows:
            kind = FP32 if row.variant == FP32 else INT8
            peer = peers[kind]
            if not row.is_peer and row.counts and peer is not None:
                notes.append(f"{row.name}: {_ratio(row, peer):.2f} x the time of {peer.name}, the fastest {kind} peer")
        if not self.tries:
            return notes
        last = self.tries[-1]
        if last.before is None or last.after is None:
            return [*notes, "dot-product peak not measured: steadiness of the machine not checked"]
        notes.append(f"dot-product peak ({instruction}): {last.before:.1f} GMAC/s before, {last.after:.1f} after; tries {len(self.tries)}")
        if self.undisturbed_peak and min(last.before, last.after) < _QUIET * self.undisturbed_peak:
            notes.append(f"BUSY: {self.undisturbed_peak:.1f} GMAC/s were to be had, other programs run; do not quote these times")
        if not last.steady(protocol.tolerance):
            notes.append(f"UNSTEADY: the peaks differ by more than {100 * protocol.tolerance:.0f} % in every try; do not quote these times")
        return notes

    def to_dict(self, protocol: Protocol) -> dict[str, Any]:
        """Everything known about the race, for JSON. Times in ms, peaks in GMAC/s."""
        return {
            "model": self.model,
            "inputs": [list(shape) for shape in self.inputs],
            "threads": self.threads,
            "macs": self.macs,
            "load_average_before": self.load_average,
            "undisturbed_peak": self.undisturbed_peak,
            "steady": bool(self.tries) and self.tries[-1].steady(protocol.tolerance),
            "tries": [{"peak_before": t.before, "peak_after": t.after, "steady": t.steady(protocol.tolerance)} for t in self.tries],
            "fastest_peer": {variant: getattr(self.fastest_peer(variant), "name", None) for variant in (FP32, INT8)},
            "candidates": [asdict(row) for row in self.rows],
        }


def _median(row: Row) -> float:
    return row.timing.median if row.timing else float("inf")


def _shares(row: Row) -> str:
    """The kinds of ops that take the most of a candidate's time, such as ``conv2d 71 %, table 17 %``."""
    return ", ".join(f"{op} {share:.0f} %" for op, share in row.settings["percent_of_time"].items() if share >= _SHOWN_PERCENT)


def _ratio(row: Row, peer: Row | None) -> float | None:
    return _median(row) / _median(peer) if peer is not None and row.timing is not None else None


def save(path: Path, conditions: Mapping[str, Any], races: Iterable[Race], protocol: Protocol) -> None:
    """Write the JSON: complete or not at all."""
    content = {
        "format": FORMAT,
        **conditions,
        "protocol": asdict(protocol),
        "races": [race.to_dict(protocol) for race in races],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
