"""Every conversion checks itself: the engine against the torch model on the examples, at a second batch and at a second size."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from pyqinfer.errors import ConversionError
from pyqinfer.frontend.export import evaluation_mode
from pyqinfer.layerwise import Difference, LayerByLayer, relative_difference
from pyqinfer.lower import EngineGraph
from pyqinfer.session import Session

# Rows of the examples that are run.
_ROWS = 2
# Outputs that differ by less than this share of their largest element are the same numbers, summed in another order.
_SAME = 1e-3
# Beyond these a layer's output is another one: a share of a float output's largest element, steps between codes.
_OTHER_FLOAT, _OTHER_CODES = 1e-2, 3
# A traced graph whose outputs are further from the module's than this is not the module: the square of the norms' ratio.
_OTHER_GRAPH = 0.1
# A check that takes longer says so.
_SILENT_SECONDS = 2.0


@dataclass(frozen=True)
class Check:
    """What is checked.

    Args:
        model: the torch model that the user converts.
        traced: the graph that was read for it.
        engine: the engine's graph.
        session: runs the engine's graph.
        to_engine: gives the engine's array for an input (by its number) of the torch model, and the torch input that this array stands for.
    """

    model: Any
    traced: GraphModule
    engine: EngineGraph
    session: Session
    to_engine: Callable[[int, Tensor], tuple[NDArray[Any], Tensor]]

    def run(self, examples: Sequence[Tensor]) -> None:
        """Compare on the examples and on what the engine takes besides.

        Warns:
            UserWarning: a layer differs a little more than rounding explains.

        Raises:
            ConversionError: an output or a layer is another one than in torch, with the layer's name.
        """
        start, ran = time.monotonic(), 0
        for what, inputs in self._trials([x.detach() for x in examples]):
            ran += self._compare(what, inputs)
        seconds = time.monotonic() - start
        if seconds > _SILENT_SECONDS:
            print(f"checked against torch on {ran} batches in {seconds:.1f} s (check=False leaves that out)", file=sys.stderr)

    def _trials(self, examples: list[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
        """The examples, or some rows of them; another batch; another size."""
        values = [self.engine.graph["values"][port["value"]] for port in self.engine.graph["inputs"]]
        # An image of bytes lies with its channels last in the engine only.
        shapes = [[value["shape"][i] for i in (0, 3, 1, 2)] if value["dtype"] == "u8" else value["shape"] for value in values]
        open_batch = [bool(shape) and isinstance(shape[0], str) for shape in shapes]
        batches = {len(x) for x, is_open in zip(examples, open_batch, strict=True) if is_open}
        rows = examples
        if len(batches) == 1 and 0 not in batches and all(open_batch):
            count = batches.pop()
            rows = [x[:_ROWS] for x in examples]
            yield "the examples", rows
            other = 1 if count > 1 else 2
            yield f"a batch of {other}", [x[:1] if other == 1 else torch.cat([x, x.flip(-1)]) for x in examples]
        else:
            yield "the examples", examples
        for numerator in (2, 8, 3) if any(_open_axes(shape) for shape in shapes) else ():
            resized = [_resized(x, _open_axes(shape), numerator, 4) for x, shape in zip(rows, shapes, strict=True)]
            if self._engine_takes(resized):
                i = next(i for i, shape in enumerate(shapes) if _open_axes(shape))
                sizes = resized[i].shape[2:] if resized[i].ndim == 4 else resized[i].shape[1:]
                yield f"{'images' if resized[i].ndim == 4 else 'inputs'} of {'x'.join(map(str, sizes))}", resized
                return

    def _engine_takes(self, inputs: Sequence[Tensor]) -> bool:
        arrays = [self.to_engine(i, x)[0] for i, x in enumerate(inputs)]
        try:
            self.session.model.native.infer_shapes({n: a.shape for n, a in zip(self.session.model.inputs, arrays, strict=True)})
        except ValueError:
            return False
        return True

    def _compare(self, what: str, inputs: Sequence[Tensor]) -> bool:
        """Whether the inputs could be run by both."""
        if not self._engine_takes(inputs):
            return False
        pairs = [self.to_engine(i, x) for i, x in enumerate(inputs)]
        arrays = dict(zip(self.session.model.inputs, [array for array, _ in pairs], strict=True))
        tensors = [tensor for _, tensor in pairs]
        expected = _outputs(self.model, tensors)
        if expected is None:
            return False
        got = list(self.session.run(arrays).values())
        if _agree(expected, got):
            return True
        self._find_layer(what, tensors, arrays)
        graph = _outputs(self.traced, tensors)
        if self.model is not self.traced and graph is not None and not _resemble(expected, graph):
            raise ConversionError(
                f"on {what} the graph that torch.export made of the model gives other outputs than the model itself: it chooses, or changes"
                " something, by what torch.export does not see (check=False converts it all the same)"
            )
        return True

    def _find_layer(self, what: str, tensors: Sequence[Tensor], arrays: dict[str, NDArray[Any]]) -> None:
        """Raise or warn, naming the first layer that is another one on the same input."""
        names = [node["name"] for node in self.engine.graph["nodes"]]
        runner = LayerByLayer(self.traced, self.engine, self.session.run(arrays, capture=names))
        with torch.no_grad():
            runner.run(*tensors)
        for name, found in runner.differences.items():
            if _is_other(found):
                text = f"{found.worst} steps" if found.worst else f"{found.relative:.2g} of its largest element"
                raise ConversionError(
                    f"on {what} layer {name!r} ({found.op}) differs from torch by up to {text}: this is a fault of the conversion, please"
                    " report it (check=False converts the model all the same)"
                )
        worst = max(runner.differences.items(), key=lambda item: item[1].relative, default=None)
        if worst is not None and worst[1].relative > _SAME:
            warnings.warn(
                f"on {what} layer {worst[0]!r} ({worst[1].op}) differs from torch by {worst[1].relative:.2g} of its largest element",
                stacklevel=6,
            )


def _is_other(found: Difference) -> bool:
    return found.relative > _OTHER_FLOAT or (found.worst >= _OTHER_CODES and found.codes > max(3, found.elements // 1000))


def _outputs(model: Any, inputs: Sequence[Tensor]) -> list[NDArray[Any]] | None:
    """The model's outputs in evaluation mode; None where it does not take these inputs.

    torch's transformers have a faster path that gives zeros for padding; the graph that torch.export makes of them computes it.
    """
    if not isinstance(model, nn.Module):
        return None
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluation_mode(model), torch.no_grad():
            leaves = tree_leaves(model(*inputs))
    except Exception:  # a model may refuse another batch or size in any way; the examples themselves it was traced with
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return [leaf.detach().float().numpy() for leaf in leaves if isinstance(leaf, Tensor)]


def _agree(expected: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> bool:
    if len(expected) != len(got):
        return False
    return all(a.shape == b.shape and relative_difference(a, b) <= _SAME for a, b in zip(expected, got, strict=True))


def _resemble(expected: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> bool:
    if [a.shape for a in expected] != [b.shape for b in got]:
        return False
    noise = sum(float(np.nansum(np.square(a.astype(np.float64) - b))) for a, b in zip(expected, got, strict=True))
    return noise <= _OTHER_GRAPH * sum(float(np.nansum(np.square(a.astype(np.float64)))) for a in expected)


def _open_axes(shape: Sequence[Any]) -> list[int]:
    """The axes behind the batch that have a symbol."""
    return [axis for axis, dim in enumerate(shape) if axis and isinstance(dim, str)]


def _resized(x: Tensor, axes: Sequence[int], numerator: int, denominator: int) -> Tensor:
    """An input whose sizes along these axes are that share of the given ones': cut off, or repeated."""
    for axis in axes:
        size = max(1, x.shape[axis] * numerator // denominator)
        x = x.index_select(axis, torch.arange(size) % x.shape[axis])
    return x
