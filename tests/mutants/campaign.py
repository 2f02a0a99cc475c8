"""Mutants loaded and run: only documented exceptions, and the same bits as the reference."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import op_rows

import pyqinfer as pq
from mutants import container
from mutants.mutate import mutate
from pyqinfer import _core

LOAD_ERRORS = (pq.ModelFormatError, pq.IntegrityError, pq.UnsupportedError, MemoryError)
RUN_ERRORS = (ValueError, TypeError, MemoryError)
LIMITS = pq.RunOptions(max_memory=64 << 20)
MOST_ELEMENTS = 20_000  # of an input, so that a campaign has many mutants


def seeds() -> dict[str, bytes]:
    """Valid small files by name: the golden cases of every op."""
    files = {}
    for i, case in enumerate(json.loads(op_rows.GOLDEN.read_text())):
        file = _core.write_model(json.dumps(case["graph"]), [op_rows.decode(entry) for entry in case["constants"]], "test")
        if len(file) <= 8192:
            files[f"{case['graph']['nodes'][0]['op']}-{i}"] = file
    return files


def write_seeds(folder: Path) -> None:
    """Write the seeds as files, for the fuzz targets of csrc/fuzz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in seeds().items():
        (folder / f"{name}.pqi").write_bytes(file)


class Campaign:
    """Counts what became of the mutants. A finding is an AssertionError that carries the file, as ``file``."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.bases = [container.read(file) for file in seeds().values()]
        self.isas = _core.cpu_info()["isas"]
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                file = container.write(mutate(self.rng.choice(self.bases), self.rng))
            except (UnicodeEncodeError, TypeError):  # half a surrogate pair, or a key that JSON has not
                continue
            yield file

    def try_one(self, file: bytes) -> None:
        self.counts["mutants"] += 1
        try:
            try:
                model = pq.Model.from_bytes(file)
            except LOAD_ERRORS as error:
                self.counts[self._name(error)] += 1
                return
            self.counts["loaded"] += 1
            assert pq.Model.from_bytes(model.to_bytes()).graph == model.graph
            self._run(model)
        except Exception as error:
            finding = AssertionError(f"{type(error).__name__}: {error}")
            finding.file = file  # type: ignore[attr-defined]
            raise finding from error

    @staticmethod
    def _name(error: Exception) -> str:
        assert str(error), "an error without words"
        return type(error).__name__

    def _inputs(self, model: pq.Model) -> dict[str, Any] | None:
        values = {port["name"]: model.graph["values"][port["value"]] for port in model.graph["inputs"]}
        symbols = {name: self.rng.choice([1, 1, 2, 3, 5, 8]) for name in model.graph["symbols"]}
        arrays: dict[str, Any] = {}
        for name, value in values.items():
            shape = [symbols[d] if isinstance(d, str) else d for d in value["shape"]]
            if np.prod([float(d) for d in shape]) > MOST_ELEMENTS:
                return None
            if value["dtype"] == "f32":
                arrays[name] = self.numbers.standard_normal(shape, np.float32)
            elif value["dtype"] == "u8":
                quant = model.graph["quants"][value["quant"]]
                arrays[name] = self.numbers.integers(quant["qmin"], quant["qmax"] + 1, shape, np.uint8)
            else:
                arrays[name] = self.numbers.integers(0, 3, shape, np.int32)
        return arrays

    def _run(self, model: pq.Model) -> None:
        inputs = self._inputs(model)
        if inputs is None:
            return
        results = []
        for isa in ("reference", self.rng.choice(self.isas)):
            try:
                result = pq.Session(model, threads=self.rng.choice([1, 1, 2]), isa=isa, run_options=LIMITS).run(inputs)
                results.append({name: np.nan_to_num(y, nan=0.5) if y.dtype == np.float32 else y for name, y in result.items()})
            except RUN_ERRORS as error:
                results.append(self._name(error))
        self.counts["ran" if isinstance(results[0], dict) else results[0]] += 1
        if isinstance(results[0], dict):
            for name, y in results[0].items():
                assert y.tobytes() == results[1][name].tobytes(), f"output {name!r} differs between sets of kernels"
        else:
            assert results[0] == results[1]
