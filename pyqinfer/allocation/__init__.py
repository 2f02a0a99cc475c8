"""Bits per layer under budgets: what layers cost, and solvers that choose. See :func:`pyqinfer.allocate`.

(The folder is not called ``allocate``: a submodule of that name would shadow the function.)
"""
