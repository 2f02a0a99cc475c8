"""Converts a torch model to ``.pqi``: import, lower, write, and load through the validator."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy, int32, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer import _core
from pyqinfer.arguments import as_examples, explained, torch_module
from pyqinfer.errors import ModelFormatError, UnsupportedError
from pyqinfer.frontend import import_graph, traced_graph
from pyqinfer.frontend.files import load_model_file, with_examples
from pyqinfer.images import ImageInput
from pyqinfer.lower import EngineGraph, lower
from pyqinfer.lower.coverage import layer_coverage
from pyqinfer.model import Model
from pyqinfer.self_check import Check
from pyqinfer.session import Session

_Result = TypeVar("_Result")
_Arrays = dict[str, NDArray[Any]]
# A graph of fewer operations is not refused for their number.
_MANY_NODES = 4000


def convert(
    model: Any,
    *,
    example_inputs: Any = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    fallback: str = "float",
    samples: int = 1,
    image_inputs: Mapping[str, ImageInput] | None = None,
    check: bool = True,
    external_data: bool = False,
) -> Model:
    """Convert a torch model or an ONNX file for the engine.

    Args:
        model: a PT2E ``GraphModule`` (what :func:`pyqinfer.quantize` returns), an ``ExportedProgram``, or an ``nn.Module``: in float,
            with fake-quantize modules, with weights of torchao's ``quantize_``, or prepared or converted by torch.ao (FX and eager);
            docs/sources.md has the list. A path is that of an ONNX file (docs/onnx.md); no other file is opened.
        example_inputs: tuple of CPU tensors: float32, NCHW where the model is, or int64, int32 or bool (indices, masks). For an ONNX
            file they may be left out; then they are random numbers of the shapes that it states.
        dynamic_batch: any batch at run time, where the model does not fix it; else the examples' batch.
        dynamic_size: any height and width of images and any length of other inputs at run time, where the model does not fix them.
        fallback: "float" runs conv and linear layers that are not quantized in float; "error" refuses them.
        samples: how many of the examples' rows are stored with their outputs, for ``pyqinfer verify``.
        image_inputs: inputs by name that the file takes as images, uint8 [N, H, W, C], with the normalization that the model's own
            input (as in ``example_inputs``) has gone through: ``{"x": pq.ImageInput(mean=(...), std=(...))}``.
        check: compare the converted model with the torch model: on two rows of the examples, on another batch and, with open sizes, on
            images of another size, as far as the torch model takes them. That takes a second or two.
        external_data: read constants of an ONNX file that lie in other files below its folder.

    Returns:
        A model that has passed the validator.

    Raises:
        TypeError: not a model. OSError, ModelFormatError: an ONNX file that cannot be read. ValueError: quantization parameters or weights
        that mean nothing.
        UnsupportedError: every operation that cannot be converted, or every float layer with ``fallback="error"``, with layer and source.
        ConversionError: the check found a layer or an output that is another one than in torch.
    """
    _check_fallback(fallback)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise ValueError(f"samples: expected a number >= 0, got {samples!r}")
    if isinstance(model, (str, os.PathLike)):
        model = load_model_file(model, external_data)
    model = model if isinstance(model, ExportedProgram) else torch_module(model)
    given = with_examples(model, None if example_inputs is None else as_examples(example_inputs))
    if image_inputs is not None and not isinstance(image_inputs, Mapping):
        raise TypeError(f'image_inputs: expected a mapping such as {{"x": pq.ImageInput()}}, got {type(image_inputs).__name__}')
    with explained(model, given):
        traced, examples = traced_graph(model, given, dynamic_batch, dynamic_size)

    def attempt(openness: Openness) -> tuple[EngineGraph, Model]:
        engine = _engine_graph(traced, examples, openness, image_inputs)
        written = _write(engine)
        if examples is not None:
            _require_examples(written, examples, image_inputs or {})
        return engine, written

    engine, written = _as_open_as_possible(attempt, dynamic_batch)
    _check_floats(engine, fallback)
    if examples is None or not (check or samples):
        return written
    images = [(image_inputs or {}).get(name) for name in written.inputs]

    def to_engine(i: int, x: Tensor) -> tuple[NDArray[Any], Tensor]:
        """The engine's array for an input, and the torch tensor that it stands for."""
        array = x.detach().numpy() if x.is_floating_point() else x.to(int32).numpy()
        image = images[i]
        if image is None:
            return array, x
        pixels = image.to_bytes(array)
        return pixels, from_numpy(image.from_bytes(pixels))

    session = Session(written, threads=1)
    if check:
        Check(model if isinstance(model, nn.Module) else traced, traced, engine, session, to_engine).run(examples)
    if samples:
        written = _write(_with_samples(engine, session, [to_engine(i, x)[0] for i, x in enumerate(examples)], samples))
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
    _check_fallback(fallback)
    traced, examples = traced_graph(model, example_inputs, dynamic_batch, dynamic_size)
    engine = _as_open_as_possible(lambda openness: _engine_graph(traced, examples, openness, image_inputs), dynamic_batch)
    _check_floats(engine, fallback)
    return engine


def _engine_graph(
    traced: GraphModule,
    examples: tuple[Tensor, ...] | None,
    openness: Openness,
    image_inputs: Mapping[str, ImageInput] | None,
) -> EngineGraph:
    return lower(import_graph(traced, examples, openness.batch, openness.sizes, openness.shared), image_inputs)


class _TooLargeError(UnsupportedError):
    """A graph of more operations than a file holds, which other openness does not change."""


class Openness(NamedTuple):
    """Which sizes of the inputs stay open, and whether those of several inputs that are equal in the examples always are."""

    batch: bool
    sizes: bool
    shared: bool


def _as_open_as_possible(attempt: Callable[[Openness], _Result], dynamic_batch: bool) -> _Result:
    """What ``attempt`` gives for the most open inputs with which the model can be converted.

    A warning names the first operation that stands in the way of more. Errors are those of the attempt with fixed inputs.
    """
    open_to_closed = [(dynamic_batch, True), (dynamic_batch, False), (False, False)]
    choices = dict.fromkeys(Openness(batch, sizes, shared) for batch, sizes in open_to_closed for shared in (False, True) if batch or sizes)
    problem = ""
    for openness in [*choices, Openness(False, False, False)]:
        try:
            result = attempt(openness)
        except _TooLargeError:
            raise
        except (UnsupportedError, ModelFormatError) as error:
            problem = str(error).splitlines()[-1].removeprefix("  - ") if openness.sizes or not problem else problem
            if not openness.batch and not openness.sizes:
                raise
            continue
        if problem and (openness.batch, openness.sizes) != (dynamic_batch, True):
            what = "heights and widths" if openness.batch else "sizes of the inputs, the batch among them,"
            warnings.warn(f"the {what} are those of the examples only; with others the model cannot be converted: {problem}", stacklevel=4)
        break
    return result


def _check_fallback(fallback: str) -> None:
    if fallback not in ("float", "error"):
        raise ValueError(f"fallback: expected 'float' or 'error', got {fallback!r}")


def _check_floats(engine: EngineGraph, fallback: str) -> None:
    floats = [layer for layer in layer_coverage(engine.graph) if not layer.integer]
    if fallback == "error" and floats:
        lines = "".join(f"\n  - {layer.name}: {layer.reason}" for layer in floats)
        raise UnsupportedError(f'{len(floats)} layer(s) would run in float (fallback="error"):{lines}')


def _write(engine: EngineGraph) -> Model:
    try:
        return Model.from_bytes(_core.write_model(engine.to_json(), engine.constants, f"pyqinfer {_core.__version__}"))
    except ModelFormatError as error:
        nodes = engine.graph["nodes"]
        if len(nodes) <= _MANY_NODES:
            raise
        # The operations of an unrolled layer are called as the layer is, and numbered.
        [(module, most)] = Counter(re.sub(r"_\d+(\.[a-z]+)*$", "", node["name"]) for node in nodes).most_common(1)
        raise _TooLargeError(
            f"the network has {len(nodes):,} operations, which is more than a file may hold ({error}); {most:,} of them are in {module!r}:"
            " recurrent layers are unrolled, a set of operations for each step, so shorten the sequence or convert a part of the network"
        ) from error


def _require_examples(model: Model, examples: tuple[Tensor, ...], images: Mapping[str, ImageInput]) -> None:
    """Raise UnsupportedError where the engine refuses the examples' shapes: a size was computed in another way than in torch."""
    shapes = {
        name: (x.shape[0], *x.shape[2:], x.shape[1]) if name in images else tuple(x.shape)
        for name, x in zip(model.inputs, examples, strict=True)
    }
    if (refusal := _refusal(model, shapes)) is not None:
        raise UnsupportedError(f"1 operation(s) cannot be converted:\n  - the engine refuses the examples: {refusal}")


def _refusal(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the engine does not take inputs of these shapes; None if it does."""
    try:
        model.native.infer_shapes(shapes)
    except ValueError as error:
        return str(error)
    return None


def _with_samples(engine: EngineGraph, session: Session, arrays: list[NDArray[Any]], count: int) -> EngineGraph:
    """Store rows of the examples; or the examples as they are, if the model does not take a batch of one or makes no numbers of it."""
    model = session.model
    rows = [[a[i : i + 1] if a.ndim else a for a in arrays] for i in range(min([count, *(len(a) for a in arrays if a.ndim)]))]
    if _refusal(model, dict(zip(model.inputs, (a.shape for a in rows[0]), strict=True))) is not None:
        rows = [arrays]
    samples = [_sample(session, row) for row in rows]
    if any(_not_finite(sample) is not None for sample in samples):
        samples = [_sample(session, arrays)]  # a variance over a batch of one is NaN
    for inputs, outputs in samples:
        if (name := _not_finite((inputs, outputs))) is not None:
            raise ValueError(f"{name!r} holds NaN or infinity for the example inputs: pass others, or samples=0")
        engine = engine.with_sample(inputs, outputs)
    return engine


def _sample(session: Session, arrays: list[NDArray[Any]]) -> tuple[_Arrays, _Arrays]:
    inputs = {name: np.asarray(a, order="C") for name, a in zip(session.model.inputs, arrays, strict=True)}
    return inputs, session.run(inputs)


def _not_finite(sample: tuple[_Arrays, _Arrays]) -> str | None:
    """The first input or output that holds NaN or infinity."""
    return next((name for arrays in sample for name, array in arrays.items() if not np.isfinite(array).all()), None)
