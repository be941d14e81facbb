"""Traces from a record to the alarm that it led to, for an OpenTelemetry collector.

::

    send (the sender's process) ─▶ align ─▶ score ─▶ alarm   (the live process)

The sender decides which records are traced and says so in the header ``traceparent`` (W3C Trace
Context); everything after it follows that header. A tick is the work of many records: its spans
belong to the trace of every traced record that begins in it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from opentelemetry.trace import Span, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.plant.sending import TRACE_HEADER
from fusion.ports import Clock
from fusion.schema import AlarmEvent, Record, Score

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from fusion.stream.shard import Step  # (a device's process traces too, without the model)

MAX_OPEN_TICKS = 10_000
EXPORT_S = 10.0
"""A collector that does not answer holds nobody up for longer at the end."""
_W3C = TraceContextTextMapPropagator()


@contextlib.contextmanager
def open_tracer(settings: Settings, process: str) -> Iterator[Tracer | None]:
    """Yield what makes spans and sends them in the background; None where nothing is traced."""
    if not settings.traces:
        yield None
        return
    provider = _provider(settings, process)
    try:
        yield provider.get_tracer("fusion")
    finally:
        provider.shutdown()


def _provider(settings: Settings, process: str) -> TracerProvider:
    # Importing takes time and memory: only who traces pays for it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.traces_share)),
        resource=Resource.create({"service.name": f"fusion-{process}"}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces, timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class SendTracer:
    """The sender's side: a span for each message that is chosen."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, message_id: str) -> str | None:
        """Return the header of the message's trace; None where it is not chosen."""
        told = {"record.id": message_id}
        with self._tracer.start_as_current_span("send", attributes=told) as span:
            if not span.is_recording():
                return None
            carrier: dict[str, str] = {}
            _W3C.inject(carrier)
            return carrier[TRACE_HEADER]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A traced record that waits for its tick."""

    record: Record
    t_ns: int


class LiveTracer:
    """The live process's side: hears of records and steps, and tells how they hang together."""

    def __init__(self, tracer: Tracer, plants: Sequence[Plant], clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock
        self._tick_ns = {str(plant.address): plant.tick_ns for plant in plants}
        self._open: OrderedDict[tuple[str, int], list[_Taken]] = OrderedDict()

    def taken(self, records: Sequence[Record]) -> None:
        """Note the traced ones among records that were just aligned."""
        now_ns = self._clock.now_ns()
        for record in records:
            if TRACE_HEADER not in record.headers or record.key not in self._tick_ns:
                continue
            tick = _event_ns(record) // self._tick_ns[record.key]
            self._open.setdefault((record.key, tick), []).append(_Taken(record, now_ns))
        while len(self._open) > MAX_OPEN_TICKS:  # (late or refused: no tick comes for them)
            self._open.popitem(last=False)

    def step(self, step: Step) -> None:
        """Tell of the ticks that were scored and published."""
        now_ns = self._clock.now_ns()
        began_ns = now_ns - round(step.work_s * NANOSECONDS)
        for score in step.scores:
            events = [
                event
                for event in step.events
                if (event.state.plant, event.state.tick) == (score.plant, score.tick)
            ]
            for taken in self._open.pop((score.plant, score.tick), ()):
                self._tell(taken, score, events, began_ns=began_ns, now_ns=now_ns)

    def _tell(
        self,
        taken: _Taken,
        score: Score,
        events: Sequence[AlarmEvent],
        *,
        began_ns: int,
        now_ns: int,
    ) -> None:
        record = taken.record
        align = self._tracer.start_span(
            "align",
            _W3C.extract(record.headers),
            start_time=taken.t_ns,
            attributes={
                "plant": score.plant,
                "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "tick": score.tick,
            },
        )
        align.end(max(began_ns, taken.t_ns))
        scored = self._child(align, "score", began_ns)
        scored.set_attributes({"surprise": score.surprise, "model.version": score.model_version})
        for event in events:
            alarm = self._child(scored, "alarm", now_ns)
            alarm.set_attributes({"alarm": event.state.name, "transition": event.transition})
            alarm.end(now_ns)
        scored.end(now_ns)

    def _child(self, parent: Span, name: str, t_ns: int) -> Span:
        return self._tracer.start_span(name, set_span_in_context(parent), start_time=t_ns)


def _event_ns(record: Record) -> int:
    """Return the event time of an envelope that was admitted, or 0 where it has none."""
    try:
        text = record.headers["ce_time"].removesuffix("Z")
        return int(np.datetime64(text, "ns").astype(np.int64))
    except (KeyError, ValueError):
        return 0
