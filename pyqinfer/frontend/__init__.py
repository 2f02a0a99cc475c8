"""Torch graphs to the IR: one file per source, one reader for all of them."""

from pyqinfer.frontend.fp32 import import_module
from pyqinfer.frontend.pt2e import import_graph

__all__ = ["import_graph", "import_module"]
