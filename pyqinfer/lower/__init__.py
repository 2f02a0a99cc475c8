"""From the IR to the engine's graph. Each pass has a file of its own, takes the graph and changes it in place; ``lower`` is their order."""

from collections.abc import Mapping

from pyqinfer.images import ImageInput
from pyqinfer.ir import Graph
from pyqinfer.lower.channels import renumber_channels
from pyqinfer.lower.concats import read_earlier_concats
from pyqinfer.lower.emit import EngineGraph, emit
from pyqinfer.lower.fold import fold_batch_norm, fold_pads
from pyqinfer.lower.fuse import fuse
from pyqinfer.lower.images import take_images
from pyqinfer.lower.layout import assign_layouts
from pyqinfer.lower.one_d import keep_as_images
from pyqinfer.lower.propagate import propagate
from pyqinfer.lower.transposed import expand_transposed

__all__ = ["EngineGraph", "lower"]


def lower(graph: Graph, images: Mapping[str, ImageInput] | None = None) -> EngineGraph:
    """Rewrite the IR into the ops of docs/format.md and write it down, which uses the IR up. ``images``: inputs that become u8 NHWC."""
    take_images(graph, images or {})
    keep_as_images(graph)
    fold_batch_norm(graph)
    propagate(graph)
    read_earlier_concats(graph)
    graph.drop_dead()
    fuse(graph)
    fold_pads(graph)
    graph.drop_dead()
    expand_transposed(graph)
    renumber_channels(graph)
    graph.drop_dead()
    assign_layouts(graph)
    graph.drop_dead()
    return emit(graph)
