"""torch in fp32: eager, and compiled by inductor."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.candidate import FP32, Candidate, Loaded
from benchmarks.peers.case import Case


class TorchEager(Candidate):
    """The module as it is: what a user has before anything else, and the weakest baseline."""

    name = "torch eager"
    variant = FP32

    def prepare(self, case: Case) -> None:
        pass  # the case's weights are all it needs

    def load(self, case: Case, threads: int) -> Loaded:
        import torch

        torch.set_num_threads(threads)
        return Loaded(_runner(case.module(), case), _settings())


class TorchCompiled(Candidate):
    """``torch.compile`` with frozen weights, so that inductor folds BatchNorm and packs weights. Needs a C++ compiler at run time."""

    name = "torch inductor"
    variant = FP32

    def prepare(self, case: Case) -> None:
        self.load(case, 1).run()  # compiles the kernels into a cache on disk

    def load(self, case: Case, threads: int) -> Loaded:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(case.root / "inductor")

        import torch
        import torch._inductor.config as inductor

        torch.set_num_threads(threads)
        inductor.freezing = True
        inductor.compile_threads = 1  # no pool of compiler processes beside the race
        compiled: Any = torch.compile(case.module(), fullgraph=True)
        run = _runner(compiled, case)
        run()
        return Loaded(run, {**_settings(), "freezing": True})


def _runner(module: Any, case: Case) -> Any:
    import torch
    from torch.utils._pytree import tree_leaves

    inputs = case.tensors()

    def run() -> list[NDArray[np.float32]]:
        with torch.no_grad():
            return [output.numpy() for output in tree_leaves(module(*inputs))]

    return run


def _settings() -> dict[str, Any]:
    import torch

    return {
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
