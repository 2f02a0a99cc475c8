"""pyqinfer itself, in fp32 or at any width its PTQ takes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyqinfer as pq
from benchmarks.peers.cache import artifact, digest, installed
from benchmarks.peers.candidate import FP32, INT8, Candidate, Loaded
from benchmarks.peers.case import Case
from pyqinfer.bits import parse_bits
from pyqinfer.study.bits_grid import pruned_inside, zeros_of

_PACKAGE = Path(pq.__file__).parent


class Engine(Candidate):
    """``fp32``, ``int8`` or weight/activation bits such as ``4/4`` (first and last layer at 8/8, PTQ's default).

    ``t/4:88.9``: of every layer but the first and the last, 88.9 % of the weights are pruned by magnitude first.
    """

    is_peer = False

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.name = f"pyqinfer {variant}"
        bits, _, zeros = variant.partition(":")
        self._bits = None if variant == FP32 else parse_bits("8/8" if variant == INT8 else bits)
        self._zeros = float(zeros or 0) / 100
        if not 0 <= self._zeros < 1:
            raise ValueError(f"{zeros} % of zeros")
        if self._bits is not None and not self._bits.is_integer:
            raise ValueError(f"{variant!r} runs in float")

    def _file(self, case: Case) -> Path:
        # The package under development is the recipe: any change of it makes the file again.
        sources = [*sorted(_PACKAGE.rglob("*.py")), *sorted(_PACKAGE.glob("_core*.so"))]
        made_from = {"torch": installed("torch"), "package": digest([*sources, Path(__file__)])}
        name = "pyqinfer-" + self.variant.replace("/", "a").replace(":", "z")
        return artifact(case.folder, name, made_from, lambda folder: self._convert(case, folder)) / "model.pqi"

    def _convert(self, case: Case, folder: Path) -> None:
        import torch

        model, inputs = case.module(), case.tensors()
        if self._bits is not None:
            model = pruned_inside(model, self._zeros)
            method = pq.PTQ(weight_bits=self._bits.weight, act_bits=self._bits.act)
            samples = [tuple(torch.from_numpy(x) for x in sample) for sample in case.calibration()]
            model = pq.quantize(model, method, example_inputs=inputs, calibration=samples)
        pq.convert(model, example_inputs=inputs).save(folder / "model.pqi")

    def prepare(self, case: Case) -> None:
        self._file(case)

    def load(self, case: Case, threads: int) -> Loaded:
        model = pq.load(self._file(case))
        session = pq.Session(model, threads=threads)
        shapes = dict(zip(model.inputs, (x.shape for x in case.inputs), strict=True))
        settings = {
            "threads": session.threads,
            "isa": session.isa,
            "compiler": pq.cpu_info()["compiler"],
            "integer_share": model.integer_share(shapes),
            "bops": model.bops(shapes),
            "file_bytes": model.nbytes,
            "zeros": zeros_of(model),
            "executed_as": dict(Counter(layer["executed_as"] for layer in session.layers()).most_common()),
            "percent_of_time": _percent_of_time(session, case),
        }
        feed = dict(zip(model.inputs, case.inputs, strict=True))
        return Loaded(lambda: list(session.run(feed).values()), settings)


def _percent_of_time(session: pq.Session, case: Case) -> dict[str, float]:
    """How the time of one inference is divided among kinds of ops, the largest share first."""
    shares = Counter[str]()
    for row in pq.profile(session, case.inputs).rows:
        share = row["share_percent"]
        assert isinstance(share, float)
        shares[str(row["op"])] += share
    return {op: round(share, 1) for op, share in shares.most_common()}
