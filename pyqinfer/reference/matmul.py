"""Products of matrices (docs/numerics.md, "matmul")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, centred, store
from pyqinfer.reference.rounding import f32, fma


def matmul(node: NodeArgs) -> Tensor:
    a, b = node.inputs
    right = b.data.swapaxes(-1, -2) if node.attrs["transpose_b"] else b.data
    if a.quant is None or b.quant is None:
        left, right = a.data.astype(np.float64), right.astype(np.float64)
        total = np.zeros((*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1]))
        for k in range(left.shape[-1]):
            total = fma(left[..., :, k, None], right[..., None, k, :], total)
        return Tensor(f32(total))
    acc = np.matmul(centred(a).astype(np.int64), centred(Tensor(right, b.quant)).astype(np.int64))
    return store(f32(acc) * np.float32(a.quant.scale * b.quant.scale), node.output)


OPS: Mapping[str, Op] = {
    "matmul": matmul,
}
