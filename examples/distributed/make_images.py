"""Writes a Parquet file of random images for the examples beside this file: python make_images.py images.parquet 100000."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHAPE = (1, 32, 32)
ROWS = 4096  # images of a row group, which is what a worker reads at once


def main(path: str, count: int) -> None:
    rng = np.random.default_rng(0)
    schema = pa.schema([("id", pa.int64()), ("image", pa.list_(pa.float32(), int(np.prod(SHAPE))))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, ROWS):
            rows = min(ROWS, count - start)
            pixels = pa.array(rng.normal(size=rows * int(np.prod(SHAPE))).astype(np.float32))
            images = pa.FixedSizeListArray.from_arrays(pixels, int(np.prod(SHAPE)))
            writer.write_table(pa.table([pa.array(np.arange(start, start + rows)), images], schema=schema))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
