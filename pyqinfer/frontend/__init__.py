"""Torch graphs to the IR: ``sources`` know what quantizers leave in a model, ``aten`` the ops, one reader walks the graph."""

from pyqinfer.frontend.importer import import_graph, import_module, sizes_of_inputs, traced_graph

__all__ = ["import_graph", "import_module", "sizes_of_inputs", "traced_graph"]
