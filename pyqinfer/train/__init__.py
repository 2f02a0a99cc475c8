"""Quantization-aware training: prepared modules that train under any loop, and the loop that :func:`pyqinfer.quantize` runs."""
