"""One conversion in a process of its own, so that its peak memory is its own and a crash is a row of the table."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

import pyqinfer as pq
from benchmarks.coverage.case import Built, Case, Outcome
from benchmarks.coverage.sources import cases_of
from pyqinfer.errors import ConversionError, UnsupportedError

# float: as it is. static: pq.PTQ at 8 bits. dynamic: pq.PTQ with activations that are quantized when the model runs.
FORMS = ("float", "static", "dynamic")
_UNITS_PER_MB = 1024 if sys.platform != "darwin" else 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One way to convert one model."""

    package: str
    name: str
    form: str
    dynamic_size: bool

    def failed(self, seconds: float, reason: str) -> Outcome:
        return Outcome(self.package, self.name, self.form, "refused", seconds, 0, reason=reason)


def send(sender: Connection, job: Job) -> None:
    """The outcome for a model by name, with one thread and without a hub: models are built from their definitions alone."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    case = next(case for case in cases_of(job.package) if case.name == job.name)
    sender.send(attempt(case, job.form, job.dynamic_size))


def attempt(case: Case, form: str, dynamic_size: bool = False) -> Outcome:
    """Build, quantize where ``form`` says so, convert with the self check, and describe what came of it."""
    try:
        built = case.build()
    except Exception as error:  # the package's own fault, or a version of it that has no such model
        return Outcome(case.package, case.name, form, "not built", 0.0, 0.0, reason=f"{type(error).__name__}: {error}")
    before = time.process_time()
    how, reason, integers = "refused", "", 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = _converted(built, form, dynamic_size)
            how = "open" if all(isinstance(shape[0], str) for shape in model.inputs.values()) else "fixed"
            integers = float(model.integer_share({name: tuple(x.shape) for name, x in zip(model.inputs, built.examples, strict=True)}))
            reason = next((str(w.message) for w in caught if "those of the examples only" in str(w.message)), "")
        except (ConversionError, UnsupportedError) as error:
            reason = str(error)
        except Exception as error:  # a row of the table: whatever a conversion raises beside its own errors is a fault to be seen
            reason = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _UNITS_PER_MB
    return Outcome(case.package, case.name, form, how, round(seconds, 2), round(peak), round(integers, 4), without_folders(reason)[:2000])


def without_folders(text: str) -> str:
    """A text whose absolute paths are names of files alone, because the folders are those of one machine."""
    return re.sub(r"(?<![\w.])/(?:[^\s/()\"']+/)+", "", text)


def _converted(built: Built, form: str, dynamic_size: bool) -> Any:
    source: Any = built.model
    if form != "float":
        method = pq.PTQ() if form == "static" else pq.PTQ(activations="dynamic")
        source = pq.quantize(built.model, method, example_inputs=built.examples, calibration=[built.examples], dynamic_size=dynamic_size)
    return pq.convert(source, example_inputs=built.examples, samples=0, dynamic_size=dynamic_size)
