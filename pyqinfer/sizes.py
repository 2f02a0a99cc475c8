"""What a model's file is made of, and what the same weights would take otherwise: several definitions of "size", each by its name.

A ternary network is called 16x, 20x or 49x smaller, depending on what is counted. So a report gives all of them side by side: the file on
disk; its ternary codes packed in two bits each, that packing behind zlib or xz, and the entropy of their counts, below which no coder of
single codes gets; and the ratio to floats of four bytes as well as to the file that held the float network.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.report import Cell, Column, Report

_COLUMNS = [
    Column("name", "layer", numeric=False),
    Column("bytes", "bytes", ",d"),
    Column("float_bytes", "as 32-bit float", ",d"),
    Column("ratio", "smaller", ".2f"),
]
_TERNARY_COLUMNS = [
    Column("zeros", "zeros", ".2%"),
    Column("code_bytes", "codes", ",d"),
    Column("entropy_bytes", "entropy", ",.0f"),
    Column("two_bit_bytes", "2-bit", ",d"),
    Column("zlib_bytes", "2-bit + zlib", ",d"),
    Column("xz_bytes", "2-bit + xz", ",d"),
]
_TERNARY_KEYS = [column.key for column in _TERNARY_COLUMNS]


def entropy_bytes(codes: NDArray[Any]) -> float:
    """Give the bytes that the counts of the codes allow at the least: sum of ``n_v log2(n / n_v) / 8`` over the values v."""
    counts = np.unique(codes, return_counts=True)[1].tolist()
    return float(sum(count * log2(codes.size / count) for count in counts)) / 8


def ternary_sizes(codes: NDArray[Any]) -> dict[str, Cell]:
    """Give what int8 codes of -1, 0, 1 take by every definition, in bytes, and the share of zeros."""
    two_bit = _in_two_bits(codes)
    return {
        "zeros": float((codes == 0).mean()),
        "entropy_bytes": entropy_bytes(codes),
        "two_bit_bytes": len(two_bit),
        "zlib_bytes": len(zlib.compress(two_bit, 9)),
        "xz_bytes": len(lzma.compress(two_bit)),
    }


def size_report(
    graph: Mapping[str, Any],
    constant_bytes: Sequence[int],
    constant: Callable[[int], NDArray[Any]],
    file_bytes: int,
    float_file_bytes: int | None = None,
) -> Report:
    """Compare the bytes of each layer in the file with those in 32-bit floats; rows above "file" add up to the file's size.

    Args:
        graph: the dict of docs/format.md.
        constant_bytes: bytes in the file, by the index of the constant.
        constant: gives the unpacked constant of an index.
        file_bytes: size of the ``.pqi`` file.
        float_file_bytes: size of the file that holds the float network (its state dict on disk), for a second ratio.
    """
    rows: list[dict[str, Cell]] = []
    for node in graph["nodes"]:
        if not node["constants"]:
            continue
        size = sum(constant_bytes[i] for i in node["constants"].values())
        weights = [graph["constants"][i] for k, i in node["constants"].items() if k in ("weight", "bias")]
        float_size = sum(4 * int(np.prod(c["shape"], dtype=np.int64)) for c in weights)
        row: dict[str, Cell] = {
            "name": node["name"],
            "bytes": size,
            "float_bytes": float_size,
            "ratio": float_size / size if size else None,
        }
        index = node["constants"].get("weight")
        if index is not None and graph["constants"][index].get("packing") in ("trit5", "trit_rans"):
            row |= {"code_bytes": constant_bytes[index], **ternary_sizes(constant(index))}
        rows.append(row)
    ternary = [row for row in rows if "zeros" in row]
    totals = _ternary_totals(ternary)
    stored = {i for sample in graph["samples"] for side in ("inputs", "outputs") for i in sample[side].values()}
    if stored:
        rows.append({"name": "(samples for verify)", "bytes": sum(constant_bytes[i] for i in stored)})
    counted = sum(int(row["bytes"] or 0) for row in rows)
    rows.append({"name": "(header, scales, alignment)", "bytes": file_bytes - counted})
    floats = sum(int(row.get("float_bytes") or 0) for row in rows)
    rows.append({"name": "file", "bytes": file_bytes, "float_bytes": floats, "ratio": floats / file_bytes, **totals})
    keys = [column.key for column in _COLUMNS] + (_TERNARY_KEYS if ternary else [])
    facts: dict[str, Any] = {"file_bytes": file_bytes, **totals}
    notes = [f"{floats / file_bytes:.2f}x smaller than 4 bytes for each weight and bias ({floats:,} bytes)"]
    if float_file_bytes is not None:
        facts["float_file_bytes"] = float_file_bytes
        notes.append(f"{float_file_bytes / file_bytes:.2f}x smaller than the float network's file ({float_file_bytes:,} bytes)")
    if ternary:
        ratio = int(totals["code_bytes"] or 0) / max(1.0, float(totals["entropy_bytes"] or 0))
        notes.append(f"ternary codes take {ratio:.4f} of the entropy of their counts")
    columns = [*_COLUMNS, *(_TERNARY_COLUMNS if ternary else [])]
    return Report("Size", columns, [{key: row.get(key) for key in keys} for row in rows], facts, notes)


def _ternary_totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Cell]:
    """Sum the ternary layers' columns; the share of zeros is that of all their weights (two bits each)."""
    if not rows:
        return {}
    totals: dict[str, Cell] = {key: sum(row[key] for row in rows) for key in _TERNARY_KEYS if key != "zeros"}
    zeros = sum(row["zeros"] * row["two_bit_bytes"] for row in rows) / sum(row["two_bit_bytes"] for row in rows)
    return {"zeros": zeros, **totals}


def _in_two_bits(codes: NDArray[Any]) -> bytes:
    """Pack codes in two bits each, the first one lowest, as packing ``dense`` of docs/format.md does."""
    padded = np.zeros(-(-codes.size // 4) * 4, np.uint8)
    padded[: codes.size] = codes.reshape(-1).astype(np.uint8) & 3
    return bytes((padded.reshape(-1, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(1, dtype=np.uint8))
