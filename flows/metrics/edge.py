"""Health and metrics of an edge process: what its devices' processes say through their pipes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.health import MAX_SILENCE_S, Answer
from flows.metrics import catalogue
from flows.metrics.process import new_registry
from fusion.plant import NANOSECONDS
from fusion.ports import Clock
from fusion.schema import DeviceHealth, StreamFlow

WELL = {"connected", "ended"}
STATES = (
    *("starting", "connecting", "connected", "refused", "waiting", "ended"),
    *("restarting", "killed"),
)
_REFUSED = ("bad", "out_of_range", "untimed", "unusable")


class EdgeMetrics(Collector):
    """The newest word of every device. Told by the supervisor, asked by threads of the server."""

    def __init__(self, devices: Sequence[str], clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beat_ns = clock.monotonic_ns()
        starting: tuple[str, str] = ("starting", "")
        self._states: dict[str, tuple[str, str]] = dict.fromkeys(devices, starting)
        self._health: dict[str, tuple[DeviceHealth, int]] = {}
        self._restarts = Counter[str](dict.fromkeys(devices, 0))
        self.registry = new_registry("edge", self.ready)
        self.registry.register(self)

    def beat(self) -> None:
        """Note that the supervisor goes round."""
        self._beat_ns = self._clock.monotonic_ns()

    def tell(self, device: str, state: str, why: str) -> None:
        """Take a change of a device's state."""
        with self._lock:
            self._states[device] = (state, why)
            self._restarts[device] += state == "restarting"

    def hear(self, device: str, health: DeviceHealth, spool_bytes: int) -> None:
        """Take how a device does."""
        with self._lock:
            self._health[device] = (health, spool_bytes)

    def live(self) -> Answer:
        """Return whether the supervisor goes round."""
        silence_s = (self._clock.monotonic_ns() - self._beat_ns) / NANOSECONDS
        return silence_s <= MAX_SILENCE_S, {"silent_for_s": round(silence_s, 1)}

    def ready(self) -> Answer:
        """Return whether every device is read. While only the broker is away, they still are."""
        with self._lock:
            states = dict(self._states)
        unwell = {d: f"{s}: {why}" if why else s for d, (s, why) in states.items() if s not in WELL}
        return not unwell, {"devices": {d: s for d, (s, _) in states.items()}, "waits_for": unwell}

    def collect(self) -> Iterator[Metric]:
        """Yield the newest words."""
        with self._lock:
            states, health = dict(self._states), dict(self._health)
            restarts = dict(self._restarts)
        state_of, restarted = catalogue.DEVICE_STATE.gauges(), catalogue.DEVICE_RESTARTS.counters()
        for device, (state, _) in states.items():
            for each in STATES:
                state_of.add_metric((device, each), float(each == state))
            restarted.add_metric((device,), restarts[device])
        yield from (state_of, restarted)
        yield from _of_devices(health)
        yield from _of_streams(
            {(d, flow.stream): flow for d, (each, _) in health.items() for flow in each.streams}
        )


def _of_devices(health: Mapping[str, tuple[DeviceHealth, int]]) -> Iterator[Metric]:
    failures = catalogue.DEVICE_FAILURES.counters()
    waiting, waiting_bytes = catalogue.SPOOL_RECORDS.gauges(), catalogue.SPOOL_BYTES.gauges()
    for device, (each, spool_bytes) in health.items():
        failures.add_metric((device,), each.failures)
        waiting.add_metric((device,), each.waiting_records)
        waiting_bytes.add_metric((device,), spool_bytes)
    yield from (failures, waiting, waiting_bytes)


def _of_streams(flows: Mapping[tuple[str, str], StreamFlow]) -> Iterator[Metric]:
    records, rate = catalogue.EDGE_RECORDS.counters(), catalogue.EDGE_RATE.gauges()
    gaps, offset = catalogue.EDGE_GAPS.counters(), catalogue.EDGE_OFFSET.gauges()
    refused = catalogue.EDGE_REFUSED.counters()
    for labels, flow in flows.items():
        records.add_metric(labels, flow.records)
        rate.add_metric(labels, flow.rate_hz)
        gaps.add_metric(labels, flow.gaps)
        if flow.offset_s is not None:
            offset.add_metric(labels, flow.offset_s)
        for why in _REFUSED:
            refused.add_metric((*labels, why), getattr(flow, why))
    yield from (records, rate, gaps, offset, refused)
