"""pyqinfer: quantized torch models, fast and bit-exact on CPUs."""
