"""What is measured of ONNX files: the standard's own node tests, mutated files, agreement with ONNX Runtime. Needs `pyqinfer[onnx]`."""
