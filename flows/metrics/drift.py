"""Drift as a metric: whoever computes it tells it here."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from flows.metrics import catalogue


class DriftMetrics:
    """The newest statistics of drift, per plant and version."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._statistic = catalogue.DRIFT.new_gauge(registry)
        self._limit = catalogue.DRIFT_LIMIT.new_gauge(registry)

    def seen(
        self, *, plant: str, version: str, statistic: str, value: float, limit: float | None = None
    ) -> None:
        """Show the newest ``value`` of a statistic, and above what it means drift."""
        self._statistic.labels(plant, version, statistic).set(value)
        if limit is not None:
            self._limit.labels(plant, version, statistic).set(limit)
