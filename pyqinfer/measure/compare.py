"""How far a session is from a torch model, layer by layer and at the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.report import Column, Report
from pyqinfer.session import Session


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization noise in dB: 10*log10(sum(reference^2) / sum((reference - value)^2)); inf for equal arrays."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(reference.astype(np.float64) - value)))
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def compare(model: Any, session: Session, inputs: Sequence[Any]) -> Report:
    """Run a torch model and a session on the same inputs and compare their outputs.

    Args:
        model: torch module, run in evaluation mode and left as it was, or PT2E GraphModule, with the session's inputs and outputs: a
            tensor, or tuples, lists and dicts of tensors, whose other leaves (None, numbers) are left aside.
        session: the engine with the converted model.
        inputs: positional inputs, numpy arrays or torch CPU tensors.

    Returns:
        One row per output: SQNR in dB, cosine, largest and mean absolute difference, share of equal elements in %, and for outputs of
        rank 2 the share of rows with the same argmax (top-1) in %.
    """
    import torch

    from pyqinfer.frontend.export import evaluation_mode

    arrays = [np.asarray(x) for x in inputs]
    with evaluation_mode(model), torch.inference_mode():
        expected = model(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
    expected_by_name = _by_name(expected, list(session.model.outputs))
    got = session.run(dict(zip(session.model.inputs, arrays, strict=True)))
    rows = [_row(name, expected_by_name[name], got[name]) for name in session.model.outputs]
    columns = [
        Column("name", "output", numeric=False),
        Column("sqnr_db", "SQNR dB", ".2f"),
        Column("cosine", "cosine", ".6f"),
        Column("max_abs", "max |diff|", ".3g"),
        Column("mean_abs", "mean |diff|", ".3g"),
        Column("equal", "equal %", ".3f"),
        Column("top1", "same top-1 %", ".2f"),
    ]
    facts = {"isa": session.isa, "inputs": {n: list(a.shape) for n, a in zip(session.model.inputs, arrays, strict=True)}}
    return Report(f"torch against the engine ({session.isa})", columns, rows, facts)


def _by_name(outputs: Any, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    if len(tensors) != len(names):
        raise ValueError(f"the torch model gives {len(tensors)} outputs, the session {len(names)} ({', '.join(names)})")
    return {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}


def _row(name: str, expected: NDArray[Any], got: NDArray[Any]) -> dict[str, str | int | float | None]:
    if expected.shape != got.shape:
        raise ValueError(f"output {name!r}: torch gives shape {expected.shape}, the engine {got.shape}")
    a, b = expected.astype(np.float64), got.astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    difference = np.abs(a - b)
    return {
        "name": name,
        "sqnr_db": sqnr_db(expected, got),
        "cosine": float(np.vdot(a, b)) / norms if norms else 1.0,
        "max_abs": float(difference.max(initial=0.0)),
        "mean_abs": float(difference.mean()) if difference.size else 0.0,
        "equal": 100 * float(np.mean(expected == got)) if difference.size else 100.0,
        "top1": 100 * float(np.mean(a.argmax(1) == b.argmax(1))) if a.ndim == 2 and len(a) else None,
    }
