"""Health and metrics of a console, of its own state and of the alarms that it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from console.delivery import Delivery
from console.picture import Picture
from console.reader import Reader
from flows.health import Answer
from flows.metrics import catalogue
from flows.metrics.process import new_registry
from fusion.alarms.kpis import Kpis, kpis_of
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmEvent

KPI_HOURS = 24
_LAST_DAY_NS = KPI_HOURS * 3_600 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class _Figured:
    """The figures of every plant, and of what picture they are."""

    seen: tuple[str, int, int]
    by_plant: dict[str, Kpis]


class ConsoleMetrics(Collector):
    """What a console says of itself. Asked by threads of the server."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._figured: _Figured | None = None
        self.registry = new_registry("console", self.ready)
        delivery: Delivery = app.state.delivery
        delivery.on_delivered = catalogue.SSE_DELIVERY.new_histogram(self.registry).observe
        self.registry.register(self)

    @property
    def _reader(self) -> Reader | None:
        """None until the application has started."""
        return getattr(self._app.state, "reader", None)

    def live(self) -> Answer:
        """Return whether the thread that reads the broker is there."""
        reader = self._reader
        return reader is None or reader.is_running, {"has_started": reader is not None}

    def ready(self) -> Answer:
        """Return whether the picture is whole, and the broker answers."""
        reader = self._reader
        if reader is None:
            return False, {"waits_for": "not started"}
        waits_for = None
        if reader.away_since_ns is not None:
            waits_for = "the broker, which does not answer"
        elif not reader.picture.is_complete:
            waits_for = "the end of what the broker holds"
        return waits_for is None, {"waits_for": waits_for}

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        delivery: Delivery = self._app.state.delivery
        for gauge, value in ((catalogue.TABS, delivery.num_tabs),):
            metric = gauge.gauges()
            metric.add_metric((), value)
            yield metric
        counted = {
            catalogue.SSE_MESSAGES: delivery.num_messages,
            catalogue.SSE_BYTES: delivery.num_bytes,
        }
        reader = self._reader
        if reader is not None:
            counted[catalogue.UNREADABLE] = reader.num_unreadable
            away = catalogue.BROKER_AWAY.gauges()
            away.add_metric((), float(reader.away_since_ns is not None))
            yield away
        for family, count in counted.items():
            counter = family.counters()
            counter.add_metric((), count)
            yield counter
        if reader is not None:
            yield from _of_kpis(self._kpis(reader.picture))

    def _kpis(self, picture: Picture) -> dict[str, Kpis]:
        """Return the figures of every plant; reckoned anew only when something was said."""
        newest_ns = {
            address: each.score.t_end_ns
            for address, each in picture.plants.items()
            if each.score is not None
        }
        seen = (picture.epoch, picture.num_events, max(newest_ns.values(), default=0))
        if self._figured is None or self._figured.seen != seen:
            events: dict[str, list[AlarmEvent]] = {address: [] for address in picture.plants}
            for event in picture.events.copy():
                events[event.state.plant].append(event)
            self._figured = _Figured(
                seen,
                {
                    address: _last_day(own, newest_ns.get(address, 0))
                    for address, own in events.items()
                },
            )
        return self._figured.by_plant


def _last_day(events: list[AlarmEvent], newest_ns: int) -> Kpis:
    """Return the figures of the plant's own last 24 hours, which a replay has too."""
    end_ns = max([newest_ns, *(event.t_ns for event in events)]) + 1
    return kpis_of(events, start_ns=end_ns - _LAST_DAY_NS, end_ns=end_ns)


def _of_kpis(by_plant: dict[str, Kpis]) -> Iterator[Metric]:
    shown = {
        catalogue.KPI_RATE: lambda k: k.per_operator_hour,
        catalogue.KPI_FLOOD: lambda k: k.flood_share,
        catalogue.KPI_STALE: lambda k: len(k.stale),
        catalogue.KPI_CHATTERING: lambda k: len(k.chattering),
        catalogue.KPI_MOST: lambda k: k.most_in_ten_minutes,
    }
    for family, value_of in shown.items():
        metric = family.gauges()
        for plant, kpis in by_plant.items():
            metric.add_metric((plant,), value_of(kpis))
        yield metric
    waits = catalogue.KPI_ACK.gauges()
    for plant, kpis in by_plant.items():
        for quantile, wait_s in (("0.5", kpis.median_ack_s), ("0.95", kpis.p95_ack_s)):
            if wait_s is not None:
                waits.add_metric((plant, quantile), wait_s)
    yield waits
