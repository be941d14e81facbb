"""Health and metrics of an ingest that goes on."""

from __future__ import annotations

from collections.abc import Mapping

from flows.health import MAX_SILENCE_S, Answer
from flows.metrics import catalogue
from flows.metrics.process import new_registry
from fusion.plant import NANOSECONDS
from fusion.ports import Clock


class IngestMetrics:
    """How the lake is kept up to date. Told by the loop, asked by threads of the server."""

    def __init__(self, clock: Clock, *, every_s: float, longest_run_s: float) -> None:
        self._clock = clock
        self._patience_ns = round((every_s + longest_run_s + MAX_SILENCE_S) * NANOSECONDS)
        self._beat_ns = clock.monotonic_ns()
        self._waits_for: str | None = "the first run"
        self.registry = new_registry("ingest", self.ready)
        self._rows = catalogue.INGEST_ROWS.new_counter(self.registry)
        self._runs = catalogue.INGEST_RUNS.new_counter(self.registry)
        self._lag = catalogue.INGEST_LAG.new_gauge(self.registry)
        self._newest = catalogue.INGEST_NEWEST.new_gauge(self.registry)

    def done(self, num_stored: int, left: Mapping[str, int]) -> None:
        """Note a run that is in the lake, and what came since."""
        self._beat_ns, self._waits_for = self._clock.monotonic_ns(), None
        self._runs.labels("done").inc()
        self._rows.inc(num_stored)
        self._newest.set(self._clock.now_ns() / NANOSECONDS)
        for topic, num_records in left.items():
            self._lag.labels(topic).set(num_records)

    def failed(self, why: str) -> None:
        """Note a run that failed, and will be repeated."""
        self._beat_ns, self._waits_for = self._clock.monotonic_ns(), why
        self._runs.labels("failed").inc()

    def live(self) -> Answer:
        """Return whether runs come to an end."""
        silent_ns = self._clock.monotonic_ns() - self._beat_ns
        return silent_ns <= self._patience_ns, {"silent_for_s": round(silent_ns / NANOSECONDS, 1)}

    def ready(self) -> Answer:
        """Return whether the last run brought the lake up to date."""
        return self._waits_for is None, {"waits_for": self._waits_for}
