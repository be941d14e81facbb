"""Metrics and baselines: how good, and compared with what."""
