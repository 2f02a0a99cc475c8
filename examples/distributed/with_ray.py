"""Ray Data: python with_ray.py model.pqi images.parquet out.npy.

Two actors of one thread each hold a model, and a dead one is replaced. Reading takes a third CPU.
"""

from __future__ import annotations

import sys
import time

import ray
from classify import Classify, report


def main(model: str, data: str, out: str) -> None:
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    start = time.perf_counter()
    found = ray.data.read_parquet(data).map_batches(Classify, fn_constructor_args=(model,), batch_size=1024, concurrency=2, num_cpus=1)
    table = found.to_pandas().sort_values("id")
    report("Ray Data, 2 actors of 1 thread", table["label"].to_numpy(), time.perf_counter() - start, out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
