"""Measuring models: latency, per-layer time, agreement with torch."""
