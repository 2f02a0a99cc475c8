"""Quantization-aware training: prepared modules that train under any loop, and the loop that :func:`pyqinfer.quantize` runs."""

from pyqinfer.train.channels import remove_channels
from pyqinfer.train.pruning import GradualPruning, cubic_sparsity, finish_pruning, prune, sparsity_report

__all__ = ["GradualPruning", "cubic_sparsity", "finish_pruning", "prune", "remove_channels", "sparsity_report"]
