"""Dask: python with_dask.py model.pqi images.parquet out.npy. Each of two worker processes opens the model once and keeps it."""

from __future__ import annotations

import sys
import time
from functools import cache

import dask
import dask.dataframe as dd
import pandas as pd
from classify import Classify, report


@cache
def classifier(path: str) -> Classify:
    """The model of this worker process."""
    return Classify(path)


def classify(part: pd.DataFrame, path: str) -> pd.DataFrame:
    return pd.DataFrame(classifier(path)(part))


def main(model: str, data: str, out: str) -> None:
    start = time.perf_counter()
    frame = dd.read_parquet(data, split_row_groups=True)
    meta = pd.DataFrame({"id": pd.Series(dtype="int64"), "label": pd.Series(dtype="int64")})
    with dask.config.set(scheduler="processes", num_workers=2):
        table = frame.map_partitions(classify, model, meta=meta).compute().sort_values("id")
    report("Dask, 2 processes of 1 thread", table["label"].to_numpy(), time.perf_counter() - start, out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
