"""Whole experiments: the demo, ablations, and grids of methods and bits on one network."""
