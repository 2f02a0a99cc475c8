"""How far a session is from a torch model, or from another session, at the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.measure.candidates import as_session, is_torch, opened, positional_arrays
from pyqinfer.report import Column, Report


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization noise in dB: 10*log10(sum(reference^2) / sum((reference - value)^2)); inf for equal arrays."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(reference.astype(np.float64) - value)))
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def compare(model: Any, session: Any, inputs: Any) -> Report:
    """Run a reference and a session on the same inputs and compare their outputs.

    Args:
        model: the reference. A torch module, run in evaluation mode and left as it was, or PT2E GraphModule, with the session's inputs
            and outputs: a tensor, or tuples, lists and dicts of tensors, whose other leaves (None, numbers) are left aside. Or a Session,
            a Model or the path of a file, such as the float network's.
        session: what is compared with it: a Session, a Model, the path of a file, or a torch module, which is converted for the inputs.
        inputs: positional inputs, numpy arrays or torch CPU tensors; one alone needs no tuple.

    Returns:
        One row per output: SQNR in dB, cosine, largest and mean absolute difference, share of equal elements in %, and for outputs of
        rank 2 the share of rows with the same argmax (top-1) in %.
    """
    arrays = positional_arrays(inputs)
    session = as_session(session, arrays, threads=1)
    names = list(session.model.outputs)
    expected = dict(zip(names, _reference(opened(model), arrays, names), strict=True))
    got = session.run(arrays)
    rows = [_row(name, expected[name], got[name]) for name in names]
    columns = [
        Column("name", "output", numeric=False),
        Column("sqnr_db", "SQNR dB", ".2f"),
        Column("cosine", "cosine", ".6f"),
        Column("max_abs", "max |diff|", ".3g"),
        Column("mean_abs", "mean |diff|", ".3g"),
        Column("equal_percent", "equal %", ".3f"),
        Column("top1_percent", "same top-1 %", ".2f"),
    ]
    facts = {"isa": session.isa, "inputs": {n: list(a.shape) for n, a in zip(session.model.inputs, arrays, strict=True)}}
    return Report(f"{'torch' if is_torch(model) else 'the reference'} against the engine ({session.isa})", columns, rows, facts)


def _reference(model: Any, arrays: list[NDArray[Any]], names: Sequence[str]) -> list[NDArray[Any]]:
    """The reference's outputs in the order of the session's, which are called ``names``."""
    if is_torch(model):
        outputs = _torch_outputs(model, arrays)
    else:
        reference = as_session(model, arrays, threads=1)
        result = reference.run(arrays)
        outputs = [result[name] for name in reference.model.outputs]
    if len(outputs) != len(names):
        raise ValueError(f"the reference gives {len(outputs)} outputs, the session {len(names)} ({', '.join(names)})")
    return outputs


def _torch_outputs(model: Any, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    import torch
    from torch.utils._pytree import tree_leaves

    from pyqinfer.arguments import explained
    from pyqinfer.frontend.export import evaluation_mode

    tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
    with explained(model, tensors, "inputs"), evaluation_mode(model), torch.inference_mode():
        outputs = model(*tensors)
    return [leaf.detach().numpy() for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


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
        "equal_percent": 100 * float(np.mean(expected == got)) if difference.size else 100.0,
        "top1_percent": 100 * float(np.mean(a.argmax(1) == b.argmax(1))) if a.ndim == 2 and len(a) else None,
    }
