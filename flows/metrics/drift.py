"""Drift as a metric: what the newest check of each plant said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.metrics import catalogue
from fusion.retraining.records import DriftRecord


class DriftMetrics(Collector):
    """Reads the newest checks when Prometheus asks: whoever checks is another process."""

    def __init__(self, newest: Callable[[], Iterable[DriftRecord]]) -> None:
        self._newest = newest

    def collect(self) -> Iterator[Metric]:
        """Yield each test's effect beside the smallest that matters, and whether it is drift."""
        effect, limit = catalogue.DRIFT.gauges(), catalogue.DRIFT_LIMIT.gauges()
        found = catalogue.DRIFT_FOUND.gauges()
        for record in self._newest():
            for finding in record.findings:
                labels = (record.plant, record.model_version, f"{finding.kind} {finding.about}")
                found.add_metric(labels, float(finding.is_drift))
                if finding.effect is not None:
                    effect.add_metric(labels, finding.effect)
                    limit.add_metric(labels, finding.min_effect)
        yield from (effect, limit, found)
