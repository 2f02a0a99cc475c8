"""The NumPy twin: docs/numerics.md written a second time, independently of the C++ reference, to check the engine against.

It is exact and readable rather than fast: ResNet-50 at 224x224 in int8 takes seconds. It trusts its graph; the engine's
validator is the one that refuses bad files.
"""

from pyqinfer.reference.executor import run

__all__ = ["run"]
