"""One result of a study, kept as a JSON file beside its ``.pqi``, so that a study that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pyqinfer.model import Model
from pyqinfer.study.evaluate import Accuracy


@dataclass(frozen=True)
class Row:
    """One network of a study.

    Args:
        name: as printed. method: ``fp32``, ``ptq``, ... or the name of another quantizer.
        status: ``ok``, or why there is nothing to report.
        accuracy: see :class:`~pyqinfer.study.evaluate.Accuracy`.
        bops: MACs x weight bits x activation bits; None where nobody counts them. bytes: of the file on disk.
        weight_bits, act_bits: averages, over weights and over MACs. bits: of each layer.
        budget: what was allowed, in the units of `pyqinfer.Budget`.
        latency_ms: instruction set (or engine) -> median of one run with batch 1.
        seconds: that quantization and conversion took.
    """

    name: str
    method: str
    status: str = "ok"
    accuracy: Accuracy | None = None
    bops: int | None = None
    bytes: int | None = None
    weight_bits: float | None = None
    act_bits: float | None = None
    bits: dict[str, str] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def timed(self, latency_ms: dict[str, float]) -> Row:
        return replace(self, latency_ms=latency_ms)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Row:
        accuracy = content.get("accuracy")
        return cls(**{**content, "accuracy": Accuracy(**accuracy) if accuracy else None})


def model_costs(model: Model, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of a `Row` that the converted model itself knows: what is reported is what runs."""
    layers = [cost for cost in model.layer_costs(shapes) if cost.macs]
    weights, macs = sum(cost.params for cost in layers), sum(cost.macs for cost in layers)
    return {
        "bops": sum(cost.bops for cost in layers),
        "bytes": model.nbytes,
        "weight_bits": sum(cost.weight_bits * cost.params for cost in layers) / max(weights, 1),
        "act_bits": sum(cost.act_bits * cost.macs for cost in layers) / max(macs, 1),
        "bits": {cost.name: f"{cost.weight_bits}/{cost.act_bits}" for cost in layers},
    }


def read_row(path: Path, key: str) -> Row | None:
    """The row in a file, if it was made under the same key; a damaged file counts as absent."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Row.from_dict(content["row"]) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_row(path: Path, key: str, row: Row) -> None:
    """Write a row, completely or not at all. `key` covers what the row was made from."""
    write_json(path, {"key": key, "row": row.to_dict()})


def read_times(path: Path, key: str) -> dict[str, float] | None:
    """Latencies in ms by name, if they were measured under the same key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["times"]) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_times(path: Path, key: str, times: dict[str, float]) -> None:
    """Write latencies in ms by name, completely or not at all."""
    write_json(path, {"key": key, "times": times})


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
