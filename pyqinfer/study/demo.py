"""The whole way in one function: a trained network is quantized, converted, checked against torch, and timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyqinfer import zoo
from pyqinfer.conversion import convert
from pyqinfer.measure.benchmark import benchmark
from pyqinfer.methods.ptq import PTQ
from pyqinfer.model import Model
from pyqinfer.quantization import quantize
from pyqinfer.report import Column, Report
from pyqinfer.session import Session

NETWORK = "resnet20_glyphs"
_CALIBRATION_IMAGES = 512
_BATCH = 256

Images = NDArray[np.float32]
OnStep = Callable[[str], None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class DemoResult:
    """``report``: the table. ``images``, ``labels``, ``predictions``: the test set and what the int8 engine makes of it."""

    report: Report
    images: Images
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]


def run_demo(directory: Path, threads: int, on_step: OnStep, on_progress: OnProgress) -> DemoResult:
    """Quantize the trained ResNet-20 to 8 bits, write both ``.pqi`` files to ``directory``, test and time them.

    Accuracy is on the test fonts, which neither training nor calibration has seen. Latency is for one image.
    """
    record = zoo.training_record(NETWORK)
    size = int(record["data"]["size"])
    model = zoo.load_trained(NETWORK)
    on_step("glyph images")
    calibration = torch.from_numpy(zoo.glyphs("train", size)[0][:_CALIBRATION_IMAGES])
    images, labels = zoo.glyphs("test", size)
    example = (calibration[:1],)

    on_step("quantize to 8 bits")
    quantized = quantize(model, PTQ(weight_bits=8, act_bits=8), example_inputs=example, calibration=torch.split(calibration, 64))
    on_step("convert")
    engines = {"engine fp32": convert(model, example_inputs=example), "engine int8": convert(quantized, example_inputs=example)}
    directory.mkdir(parents=True, exist_ok=True)
    for name, engine in engines.items():
        engine.save(directory / f"{NETWORK}_{name.split()[-1]}.pqi")

    on_step(f"accuracy on {len(labels):,} test images")
    runners: dict[str, Callable[[Images], Images]] = {
        "torch fp32": _torch_runner(model),
        "engine fp32": Session(engines["engine fp32"], threads=threads),
        "engine int8": Session(engines["engine int8"], threads=threads),
        "torch int8 graph": _torch_runner(quantized),
    }
    logits = _run_all(runners, images, on_progress)
    on_step("latency")
    timing = benchmark({"torch fp32": model, **engines}, (images[:1],), threads=threads, on_progress=on_progress)
    predictions = {name: values.argmax(1) for name, values in logits.items()}
    report = _report(engines, timing, predictions, labels)
    return DemoResult(report, images, labels, predictions["engine int8"])


def _torch_runner(module: Any) -> Callable[[Images], Images]:
    def run(batch: Images) -> Images:
        with torch.inference_mode():
            result: Images = module(torch.from_numpy(batch)).numpy()
            return result

    return run


def _run_all(runners: dict[str, Callable[[Images], Images]], images: Images, on_progress: OnProgress) -> dict[str, Images]:
    """Logits of every runner for all images, batch by batch."""
    starts = range(0, len(images), _BATCH)
    total, done = len(runners) * len(starts), 0
    logits: dict[str, Images] = {}
    for name, run in runners.items():
        parts = []
        for start in starts:
            parts.append(run(images[start : start + _BATCH]))
            done += 1
            on_progress(done, total)
        logits[name] = np.concatenate(parts)
    return logits


def _report(engines: dict[str, Model], timing: Report, predictions: dict[str, NDArray[np.int64]], labels: NDArray[np.int64]) -> Report:
    float_model = engines["engine fp32"]
    float_bops = float_model.bops()
    rows: list[dict[str, str | int | float | None]] = []
    for timed in timing.rows:
        name = str(timed["name"])
        model = engines.get(name, float_model)  # torch's float model has the costs of the engine's
        bops = model.bops()
        rows.append(
            {
                "name": name,
                "bits": "8/8" if name.endswith("int8") else "32/32",
                "top1_percent": 100 * float(np.mean(predictions[name] == labels)),
                "p50_ms": timed["p50_ms"],
                "p90_ms": timed["p90_ms"],
                "speedup": timed["speedup"],
                "bops": bops,
                "fewer_bops": float_bops / bops,
                "file_bytes": model.nbytes if name in engines else None,
                "integer_macs_percent": 100 * model.integer_share(),
            }
        )
    columns = [
        Column("name", "model", numeric=False),
        Column("bits", "bits w/a", numeric=False),
        Column("top1_percent", "top-1 %", ".2f"),
        Column("p50_ms", "p50 ms", ".3f"),
        Column("p90_ms", "p90 ms", ".3f"),
        Column("speedup", "speed-up", ".2f"),
        Column("bops", "BOPs (G)", ".2f", scale=1e9),
        Column("fewer_bops", "x fewer", ".1f"),
        Column("file_bytes", "file (kB)", ".0f", scale=1e3),
        Column("integer_macs_percent", "integer MACs %", ".1f"),
    ]
    same = predictions["engine int8"] == predictions["torch int8 graph"]
    notes = [
        f"speed-up against {timing.facts['baseline']}, the faster float run; one image, {timing.facts['threads']} thread(s)",
        f"the engine and torch's quantized graph give the same class for {100 * float(np.mean(same)):.2f} % of"
        f" {len(labels):,} images of unseen fonts ({int(np.sum(~same))} differ)",
    ]
    facts = {**timing.facts, "test_images": len(labels), "same_top1": float(np.mean(same))}
    return Report(f"ResNet-20 on glyphs: {timing.facts['cpu']} ({timing.facts['isa']})", columns, rows, facts, notes)
