"""Every metric by its name: what it is, and what divides it.

docs/observability.md has this list as a table, and the rules and dashboards in ``deploy/`` may
name nothing else (``tests/unit/flows/test_observability_files.py``). Names follow Prometheus' own
advice: base units, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

Process = Literal["live", "edge", "console", "ingest"]
EVERY: tuple[Process, ...] = ("live", "edge", "console", "ingest")
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    told: str
    labels: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ("live",)

    def __post_init__(self) -> None:
        assert (self.kind == "counter") == self.name.endswith("_total"), self.name
        FAMILIES.append(self)

    def new_gauge(self, registry: CollectorRegistry) -> Gauge:
        """Return it as something to be set."""
        assert self.kind == "gauge", self.name
        return Gauge(self.name, self.told, self.labels, registry=registry)

    def new_counter(self, registry: CollectorRegistry) -> Counter:
        """Return it as something to count with."""
        assert self.kind == "counter", self.name
        return Counter(self.name, self.told, self.labels, registry=registry)

    def new_histogram(
        self, registry: CollectorRegistry, *, bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        """Return it as something that observes; ``bounds`` are the upper ends of its buckets."""
        assert self.kind == "histogram", self.name
        return Histogram(self.name, self.told, self.labels, registry=registry, buckets=bounds)

    def gauges(self) -> GaugeMetricFamily:
        """Return it without values, for what is counted elsewhere."""
        assert self.kind == "gauge", self.name
        return GaugeMetricFamily(self.name, self.told, labels=self.labels)

    def counters(self) -> CounterMetricFamily:
        """Return it without values, for what is counted elsewhere."""
        assert self.kind == "counter", self.name
        return CounterMetricFamily(self.name, self.told, labels=self.labels)

    def histograms(self) -> HistogramMetricFamily:
        """Return it without values, for what is counted elsewhere."""
        assert self.kind == "histogram", self.name
        return HistogramMetricFamily(self.name, self.told, labels=self.labels)


FAMILIES: list[Family] = []
"""All of them, in the order of this file."""

BUILD = Family(
    "fusion_build_info", "gauge", "1; what runs.", ("process", "version", "python"), EVERY
)
READY = Family("fusion_ready", "gauge", "1 where /health/ready says yes.", (), EVERY)

# ---------------------------------------------------------------- records, live

LEDGER = Family(
    "fusion_ledger_records",
    "gauge",
    "Records of a partition by what became of them, since its first one and across restarts: "
    "scored, late, duplicate, dead_lettered, pending; lost are beside them.",
    ("topic", "partition", "outcome"),
)
RECORDS = Family(
    "fusion_records_total",
    "counter",
    "The same since this process began, of what is settled.",
    ("topic", "partition", "outcome"),
)
LAG = Family(
    "fusion_consumer_lag_records",
    "gauge",
    "Records that the broker holds and the live process has not read.",
    ("topic", "partition"),
)
WATERMARK_DELAY = Family(
    "fusion_watermark_delay_seconds",
    "gauge",
    "How far the newest closed tick lies behind this machine's clock.",
    ("plant",),
)
NEWEST_EVENT = Family(
    "fusion_stream_newest_event_timestamp_seconds",
    "gauge",
    "Newest event time of a stream.",
    ("plant", "stream"),
)
STREAM_RATE = Family(
    "fusion_stream_rate_hertz",
    "gauge",
    "Records a second of a stream, over about the last minute.",
    ("plant", "stream"),
)
STREAM_MISSING = Family(
    "fusion_stream_missing_records",
    "gauge",
    "Sequence numbers of a stream that never came.",
    ("plant", "stream"),
)
STREAM_SKEW = Family(
    "fusion_stream_skew_seconds",
    "gauge",
    "A stream's clock against the median of its plant; positive is behind.",
    ("plant", "stream"),
)
STREAM_IDLE = Family(
    "fusion_stream_idle",
    "gauge",
    "1 where a stream is silent and no longer waited for.",
    ("plant", "stream"),
)

# ---------------------------------------------------------------- scoring, live

WINDOW_LATENCY = Family(
    "fusion_window_latency_seconds",
    "histogram",
    "From a tick's end in event time to its published score.",
    ("plant",),
)
WINDOW_PROCESSING = Family(
    "fusion_window_processing_seconds",
    "histogram",
    "Features, networks, score and alarms of one tick, without waiting.",
    ("partition",),
)
INFERENCE = Family(
    "fusion_inference_seconds",
    "histogram",
    "One call of a network.",
    ("version",),
)
INFERENCE_FAILURES = Family(
    "fusion_inference_failures_total",
    "counter",
    "Calls that got no answer, or one that is not finite.",
    ("version",),
)
PAUSED = Family(
    "fusion_scoring_paused",
    "gauge",
    "1 while scoring waits for inference; nothing is dropped.",
)
SURPRISE = Family(
    "fusion_surprise",
    "gauge",
    "The newest score; 1 is the alarm threshold.",
    ("plant",),
)
MODEL = Family(
    "fusion_model_info",
    "gauge",
    "1; the versions of a plant: the champion speaks, a challenger only listens.",
    ("plant", "version", "role"),
)
DRIFT = Family(
    "fusion_drift_statistic",
    "gauge",
    "How large a difference between the model's own time and the newest check is.",
    ("plant", "version", "statistic"),
)
DRIFT_LIMIT = Family(
    "fusion_drift_limit",
    "gauge",
    "Smaller differences do not matter, however certain.",
    ("plant", "version", "statistic"),
)
DRIFT_FOUND = Family(
    "fusion_drift_found",
    "gauge",
    "1 where the newest check says that the model fits no more: large enough, and no chance.",
    ("plant", "version", "statistic"),
)

# ---------------------------------------------------------------- alarms

TRANSITIONS = Family(
    "fusion_alarm_transitions_total",
    "counter",
    "Lines of the alarms' journal.",
    ("plant", "kind", "priority", "transition"),
)
STANDING = Family(
    "fusion_alarms_standing",
    "gauge",
    "Alarms that are on and not hidden.",
    ("plant", "kind", "priority"),
)
UNACKNOWLEDGED = Family(
    "fusion_alarms_unacknowledged",
    "gauge",
    "Alarms that wait for an acknowledgement.",
    ("plant",),
)
KPI_RATE = Family(
    "fusion_alarm_kpi_per_operator_hour",
    "gauge",
    "ISA-18.2: announced alarms per operator hour, last 24 h of plant time.",
    ("plant",),
    ("console",),
)
KPI_FLOOD = Family(
    "fusion_alarm_kpi_flood_ratio",
    "gauge",
    "ISA-18.2: share of 10-minute periods with more than 10 alarms, last 24 h.",
    ("plant",),
    ("console",),
)
KPI_STALE = Family(
    "fusion_alarm_kpi_stale", "gauge", "ISA-18.2: on for over 24 h.", ("plant",), ("console",)
)
KPI_CHATTERING = Family(
    "fusion_alarm_kpi_chattering",
    "gauge",
    "ISA-18.2: alarms raised three times within a minute, last 24 h.",
    ("plant",),
    ("console",),
)
KPI_MOST = Family(
    "fusion_alarm_kpi_most_in_ten_minutes",
    "gauge",
    "ISA-18.2: most alarms in any 10 minutes, last 24 h.",
    ("plant",),
    ("console",),
)
KPI_ACK = Family(
    "fusion_alarm_kpi_acknowledge_seconds",
    "gauge",
    "Time to acknowledge, last 24 h; absent where none was.",
    ("plant", "quantile"),
    ("console",),
)

# ---------------------------------------------------------------- edge

_EDGE: tuple[Process, ...] = ("edge",)
DEVICE_STATE = Family(
    "fusion_edge_device_state",
    "gauge",
    "1 for the state that a device is in.",
    ("device", "state"),
    _EDGE,
)
DEVICE_RESTARTS = Family(
    "fusion_edge_device_restarts_total",
    "counter",
    "How often a device's process ended or hung and was started again.",
    ("device",),
    _EDGE,
)
DEVICE_FAILURES = Family(
    "fusion_edge_connection_failures_total",
    "counter",
    "How often a connection was lost or not made.",
    ("device",),
    _EDGE,
)
SPOOL_RECORDS = Family(
    "fusion_edge_spool_records", "gauge", "Records that wait for the broker.", ("device",), _EDGE
)
SPOOL_BYTES = Family(
    "fusion_edge_spool_bytes", "gauge", "What they take on disk.", ("device",), _EDGE
)
EDGE_RECORDS = Family(
    "fusion_edge_records_total",
    "counter",
    "Records given to the broker or its spool.",
    ("device", "stream"),
    _EDGE,
)
EDGE_RATE = Family(
    "fusion_edge_stream_rate_hertz",
    "gauge",
    "Records a second of a stream over the last 10 s.",
    ("device", "stream"),
    _EDGE,
)
EDGE_GAPS = Family(
    "fusion_edge_stream_gaps_total",
    "counter",
    "Silences longer than the stream's max_age_s.",
    ("device", "stream"),
    _EDGE,
)
EDGE_OFFSET = Family(
    "fusion_edge_clock_offset_seconds",
    "gauge",
    "How far a source's clock lags this machine's.",
    ("device", "stream"),
    _EDGE,
)
EDGE_REFUSED = Family(
    "fusion_edge_values_refused_total",
    "counter",
    "Values by why they are bad: bad, out_of_range, untimed, unusable.",
    ("device", "stream", "why"),
    _EDGE,
)

# ---------------------------------------------------------------- ingest

_INGEST: tuple[Process, ...] = ("ingest",)
INGEST_ROWS = Family(
    "fusion_ingest_rows_total", "counter", "Records that are new in the lake.", (), _INGEST
)
INGEST_RUNS = Family(
    "fusion_ingest_runs_total",
    "counter",
    "Runs by how they ended: done, failed.",
    ("outcome",),
    _INGEST,
)
INGEST_LAG = Family(
    "fusion_ingest_lag_records",
    "gauge",
    "Records that the broker holds and the lake does not.",
    ("topic",),
    _INGEST,
)
INGEST_NEWEST = Family(
    "fusion_ingest_last_success_timestamp_seconds",
    "gauge",
    "When a run last brought the lake up to date.",
    (),
    _INGEST,
)

# ---------------------------------------------------------------- console

_CONSOLE: tuple[Process, ...] = ("console",)
TABS = Family("fusion_console_tabs", "gauge", "Tabs of browsers that listen.", (), _CONSOLE)
SSE_MESSAGES = Family(
    "fusion_console_messages_total", "counter", "Messages sent to tabs.", (), _CONSOLE
)
SSE_BYTES = Family(
    "fusion_console_message_bytes_total",
    "counter",
    "Bytes in them, before they are squeezed.",
    (),
    _CONSOLE,
)
SSE_DELIVERY = Family(
    "fusion_console_delivery_seconds",
    "histogram",
    "From a change of the picture to the message that tells a tab of it.",
    (),
    _CONSOLE,
)
UNREADABLE = Family(
    "fusion_console_unreadable_records_total",
    "counter",
    "Records that this version cannot read.",
    (),
    _CONSOLE,
)
BROKER_AWAY = Family(
    "fusion_console_broker_away",
    "gauge",
    "1 while the console hears nothing of its broker.",
    (),
    _CONSOLE,
)


def as_markdown() -> str:
    """Return the table of docs/observability.md."""
    lines = ["| metric | kind | labels | told by | what it is |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        told_by = "every process" if family.processes == EVERY else ", ".join(family.processes)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {told_by} | {family.told} |")
    return "\n".join(lines)
