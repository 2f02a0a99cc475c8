"""The one function that every framework calls, and the run without any framework: python classify.py model.pqi images.parquet out.npy."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

import pyqinfer

SHAPE = (1, 32, 32)


class Classify:
    """Columns ``id`` and ``image`` to ``id`` and ``label``. A worker makes one of its own from the path of the file."""

    def __init__(self, path: str, threads: int = 1) -> None:
        self.predict = pyqinfer.Predictor(path, threads=threads)
        (self.input,), (self.output,) = self.predict.inputs, self.predict.outputs

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        # Parquet holds images as flat lists; a column of them is an array of arrays in some frameworks and one array in others.
        images = np.stack(list(batch["image"])).astype(np.float32, copy=False).reshape(-1, *SHAPE)
        logits = self.predict({self.input: images})[self.output]
        return {"id": np.asarray(batch["id"]), "label": logits.argmax(1)}


def report(name: str, labels: NDArray[Any], seconds: float, out: str) -> None:
    """Write the labels in the order of the ids, and say how fast it went."""
    np.save(out, labels)
    print(f"{name}: {len(labels)} images, {len(labels) / seconds:.0f} images/s")


def main(model: str, data: str, out: str, threads: int = 2) -> None:
    classify = Classify(model, threads)
    start = time.perf_counter()
    file = pyarrow.parquet.ParquetFile(data)
    parts = [classify({"id": b["id"].to_numpy(), "image": _rows(b["image"])})["label"] for b in file.iter_batches(4096)]
    report(f"one process, {threads} threads", np.concatenate(parts), time.perf_counter() - start, out)


def _rows(column: Any) -> NDArray[Any]:
    return column.flatten().to_numpy().reshape(len(column), -1)


if __name__ == "__main__":
    main(*sys.argv[1:4])
