"""Benchmarks by their official rules: metrics, baselines of equal care, published figures."""

from fusion.evaluation.protocol import Protocol

PROTOCOLS: dict[str, Protocol] = {}
"""What ``fusion evaluate`` offers, by name."""

__all__ = ["PROTOCOLS", "Protocol"]
