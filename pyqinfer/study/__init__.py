"""Experiments on top of everything else."""
