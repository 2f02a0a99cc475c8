"""Quantization methods against each other: accuracy in the engine and in torch, BOPs, bytes and measured latency.

Run from the repository's root (the latency part on a quiet machine)::

    python -m benchmarks.methods --out build/methods            # everything, at most four hours on two cores
    python -m benchmarks.methods --out build/methods --quick    # minutes

``entries.py`` says what is compared, on the networks of ``networks.py``; ``peers.py`` quantizes the same networks with other tools. Rows
are made by :mod:`pyqinfer.study.pareto`, which keeps each one: a run that was stopped goes on where it was. ``claims.py`` states what
docs/methods.md says of the results, as numbers; ``results.py`` writes the JSON that it quotes.
"""
