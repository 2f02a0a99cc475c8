"""Rows of ONNX operators by family: what each computes, in functions of torch that the graph reader knows."""
