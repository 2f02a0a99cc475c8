"""Converts a torch model to ``.pqi``: import, lower, write, and load through the validator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import int32

from pyqinfer import _core
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import import_module
from pyqinfer.frontend.export import check_examples
from pyqinfer.images import ImageInput
from pyqinfer.lower import EngineGraph, lower
from pyqinfer.lower.coverage import layer_coverage
from pyqinfer.model import Model
from pyqinfer.session import Session


def convert(
    model: Any,
    *,
    example_inputs: Any = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    fallback: str = "float",
    samples: int = 1,
    image_inputs: Mapping[str, ImageInput] | None = None,
) -> Model:
    """Convert a torch model for the engine.

    Args:
        model: a PT2E ``GraphModule`` (what :func:`pyqinfer.quantize` returns), an ``ExportedProgram``, or an ``nn.Module``: in float,
            with fake-quantize modules, with weights of torchao's ``quantize_``, or prepared or converted by torch.ao (FX and eager);
            docs/sources.md has the list.
        example_inputs: tuple of CPU tensors: float32, NCHW where the model is, or int64 or int32 indices of an embedding.
        dynamic_batch: any batch at run time, where the model does not fix it; else the examples' batch.
        dynamic_size: any height and width at run time, for inputs of rank 4.
        fallback: "float" runs conv and linear layers that are not quantized in float; "error" refuses them.
        samples: how many of the examples' rows are stored with their outputs, for ``pyqinfer verify``.
        image_inputs: inputs by name that the file takes as images, uint8 [N, H, W, C], with the normalization that the model's own
            input (as in ``example_inputs``) has gone through: ``{"x": pq.ImageInput(mean=(...), std=(...))}``.

    Returns:
        A model that has passed the validator.

    Raises:
        TypeError: not a model (paths are never opened). ValueError: quantization parameters or weights that mean nothing.
        UnsupportedError: every operation that cannot be converted, or every float layer with ``fallback="error"``, with layer and source.
    """
    engine = build_engine_graph(model, example_inputs, dynamic_batch, dynamic_size, fallback, image_inputs)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise ValueError(f"samples: expected a number >= 0, got {samples!r}")
    written = _write(engine)
    if samples and example_inputs is not None:
        examples = check_examples(example_inputs)
        arrays = [x.detach().numpy() if x.is_floating_point() else x.to(int32).numpy() for x in examples]
        for i, name in enumerate(written.inputs):
            if image_inputs and name in image_inputs:
                arrays[i] = image_inputs[name].to_bytes(arrays[i])
        written = _write(_with_samples(engine, written, arrays, samples))
    return written


def build_engine_graph(
    model: Any,
    example_inputs: Any = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    fallback: str = "float",
    image_inputs: Mapping[str, ImageInput] | None = None,
) -> EngineGraph:
    """Give the graph and constants that :func:`convert` writes. Arguments and errors are as there; the native core is not needed."""
    if fallback not in ("float", "error"):
        raise ValueError(f"fallback: expected 'float' or 'error', got {fallback!r}")
    engine = lower(import_module(model, example_inputs, dynamic_batch, dynamic_size), image_inputs)
    floats = [layer for layer in layer_coverage(engine.graph) if not layer.integer]
    if fallback == "error" and floats:
        lines = "".join(f"\n  - {layer.name}: {layer.reason}" for layer in floats)
        raise UnsupportedError(f'{len(floats)} layer(s) would run in float (fallback="error"):{lines}')
    return engine


def _write(engine: EngineGraph) -> Model:
    return Model.from_bytes(_core.write_model(engine.to_json(), engine.constants, f"pyqinfer {_core.__version__}"))


def _accepts(model: Model, shapes: list[tuple[int, ...]]) -> bool:
    try:
        model.native.infer_shapes(dict(zip(model.inputs, shapes, strict=True)))
    except ValueError:
        return False
    return True


def _with_samples(engine: EngineGraph, model: Model, arrays: list[NDArray[Any]], count: int) -> EngineGraph:
    """Store rows of the examples, or the examples as they are if the model does not take a batch of one."""
    rows = [[a[i : i + 1] if a.ndim else a for a in arrays] for i in range(min([count, *(len(a) for a in arrays if a.ndim)]))]
    if not _accepts(model, [a.shape for a in rows[0]]):
        rows = [arrays]
    session = Session(model, threads=1)
    for row in rows:
        inputs = {name: np.asarray(a, order="C") for name, a in zip(model.inputs, row, strict=True)}
        outputs = session.run(inputs)
        for name, array in [*inputs.items(), *outputs.items()]:
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} holds NaN or infinity for the example inputs: pass others, or samples=0")
        engine = engine.with_sample(inputs, outputs)
    return engine
