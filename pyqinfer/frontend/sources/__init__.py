"""Where models come from: each file knows one quantizer, or flow, and says how what it leaves in a model is read."""
