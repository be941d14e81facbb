"""Metrics of a live process: what the loop says of itself, rendered when Prometheus asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.health import Answer
from flows.metrics import catalogue
from flows.metrics.drift import DriftMetrics
from flows.metrics.process import new_registry
from fusion.alignment import Outcome
from fusion.plant import NANOSECONDS
from fusion.retraining.records import DriftRecord
from fusion.rollout.metering import CALL_BOUNDS_S, Calls
from fusion.schema import TopicPartition
from fusion.stream.figures import LiveFigures, PlantFigures, VersionFigures
from fusion.stream.shard import Step

SETTLED = tuple(outcome for outcome in Outcome if outcome is not Outcome.PENDING)
Key = tuple[TopicPartition, str]


class LiveMetrics(Collector):
    """Hears steps and figures from the loop; asked by threads of the server.

    The loop pays for a few additions per tick and one copy of its counts every few seconds.
    Everything else is done when somebody asks.
    """

    def __init__(
        self,
        ready: Callable[[], Answer],
        now_ns: Callable[[], int],
        newest_drift: Callable[[], Iterable[DriftRecord]] = tuple,
    ) -> None:
        self.registry: CollectorRegistry = new_registry("live", ready)
        self.registry.register(DriftMetrics(newest_drift))
        self._now_ns = now_ns
        self._latency = catalogue.WINDOW_LATENCY.new_histogram(self.registry)
        self._processing = catalogue.WINDOW_PROCESSING.new_histogram(
            self.registry, bounds=catalogue.FAST_SECONDS
        )
        self._surprise = catalogue.SURPRISE.new_gauge(self.registry)
        self._transitions = catalogue.TRANSITIONS.new_counter(self.registry)
        self._figures: LiveFigures | None = None
        self._first: dict[Key, int] = {}
        self._most: dict[Key, int] = {}
        self.registry.register(self)

    def step(self, step: Step) -> None:
        """Note what one transaction said: it is durable now."""
        now_ns = self._now_ns()
        for score in step.scores:
            self._latency.labels(score.plant).observe((now_ns - score.t_end_ns) / NANOSECONDS)
            self._surprise.labels(score.plant).set(score.surprise)
        if step.scores:
            processing = self._processing.labels(str(step.partition))
            for _ in step.scores:
                processing.observe(step.work_s / len(step.scores))
        for event in step.events:
            state = event.state
            self._transitions.labels(
                state.plant, state.kind, state.priority, event.transition
            ).inc()

    def figures(self, figures: LiveFigures) -> None:
        """Take the newest figures of the loop."""
        for part, counts in figures.counts.items():
            for outcome in SETTLED:
                key, count = (part, outcome.value), getattr(counts, outcome.value)
                self._first.setdefault(key, count)
                # A shard that was opened anew reads its open windows again: that is no new record.
                self._most[key] = max(self._most.get(key, 0), count)
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield what the newest figures say; nothing before the first ones."""
        figures = self._figures
        if figures is None:
            return
        yield from self._of_partitions(figures)
        yield from _of_plants(figures.plants, self._now_ns())
        yield from _of_versions(figures.plants)
        paused = catalogue.PAUSED.gauges()
        paused.add_metric((), float(figures.waits_for is not None))
        yield paused

    def _of_partitions(self, figures: LiveFigures) -> Iterator[Metric]:
        ledger, lag = catalogue.LEDGER.gauges(), catalogue.LAG.gauges()
        for part, counts in figures.counts.items():
            for outcome in (*(each.value for each in Outcome), "lost"):
                ledger.add_metric((*_labels(part), outcome), getattr(counts, outcome))
        for part, num_records in figures.lags.items():
            lag.add_metric(_labels(part), num_records)
        total = catalogue.RECORDS.counters()
        for (part, outcome), most in list(self._most.items()):
            total.add_metric((*_labels(part), outcome), most - self._first[part, outcome])
        yield from (ledger, lag, total)


def _labels(part: TopicPartition) -> tuple[str, str]:
    return part.topic, str(part.partition)


def _of_plants(plants: tuple[PlantFigures, ...], now_ns: int) -> Iterator[Metric]:
    delay, standing = catalogue.WATERMARK_DELAY.gauges(), catalogue.STANDING.gauges()
    waiting, newest = catalogue.UNACKNOWLEDGED.gauges(), catalogue.NEWEST_EVENT.gauges()
    rate, missing = catalogue.STREAM_RATE.gauges(), catalogue.STREAM_MISSING.gauges()
    skew, idle = catalogue.STREAM_SKEW.gauges(), catalogue.STREAM_IDLE.gauges()
    for each in plants:
        if each.watermark_ns is not None:
            delay.add_metric((each.plant,), (now_ns - each.watermark_ns) / NANOSECONDS)
        for (kind, priority), count in each.standing.items():
            standing.add_metric((each.plant, kind, priority), count)
        waiting.add_metric((each.plant,), each.num_unacknowledged)
        for stream, at_ns in each.newest_ns.items():
            newest.add_metric((each.plant, stream), at_ns / NANOSECONDS)
        for stream in each.streams:
            labels = (each.plant, stream.stream)
            rate.add_metric(labels, stream.rate_hz)
            missing.add_metric(labels, stream.gaps)
            skew.add_metric(labels, math.nan if stream.skew_s is None else stream.skew_s)
            idle.add_metric(labels, float(stream.is_idle))
    yield from (delay, standing, waiting, newest, rate, missing, skew, idle)


def _of_versions(plants: tuple[PlantFigures, ...]) -> Iterator[Metric]:
    info = catalogue.MODEL.gauges()
    open_versions: dict[str, VersionFigures] = {}
    for each in plants:
        for version in each.versions:
            info.add_metric((each.plant, version.version, version.role), 1)
            open_versions[version.version] = version  # (plants share the meter of a version)
    seconds, failures = catalogue.INFERENCE.histograms(), catalogue.INFERENCE_FAILURES.counters()
    for name, version in open_versions.items():
        if version.calls is not None:
            seconds.add_metric((name,), _buckets(version.calls), version.calls.sum_s)
            failures.add_metric((name,), version.calls.num_failed)
    yield from (info, seconds, failures)


def _buckets(calls: Calls) -> list[tuple[str, float]]:
    """Return the cumulative counts that a histogram of Prometheus has."""
    bounds = [*(str(bound) for bound in CALL_BOUNDS_S), "+Inf"]
    num = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(bounds, calls.by_duration, strict=True):
        num += count
        found.append((bound, num))
    return found
