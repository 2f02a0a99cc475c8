"""Where models come from: a file for each quantizer or flow says how what it leaves in a model is read."""
