"""Benchmarks by their official rules: metrics, baselines with the same care, and what is published."""

from fusion.evaluation.protocol import Protocol

PROTOCOLS: dict[str, Protocol] = {}
"""What ``fusion evaluate`` offers, by name."""

__all__ = ["PROTOCOLS", "Protocol"]
