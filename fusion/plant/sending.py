"""Payloads to messages: topic, key and envelope of everything that a plant's stream sends."""

from __future__ import annotations

from collections.abc import Callable

from fusion.plant.description import Plant
from fusion.schema import AudioChunk, Envelope, Message, Payload, TelemetryBatch, encode
from fusion.schema.records import rfc3339
from fusion.schema.versions import NEWEST

TRACE_HEADER = "traceparent"
Trace = Callable[[str], str | None]


class StreamSender:
    """Makes the messages of one stream, numbered from 0 in one ``epoch``.

    A sender that starts again takes a new ``epoch``, so that readers tell a restart from a loss.
    ``trace`` gives the header ``traceparent`` (W3C Trace Context) of the message with an id; None
    where it is not traced.
    """

    def __init__(
        self, plant: Plant, stream: str, *, source: str, epoch: str, trace: Trace | None = None
    ) -> None:
        self._topic = plant.topic(plant.stream(stream).modality)
        self._type = f"fusion.{plant.stream(stream).modality}"
        self._key = str(plant.address)
        self._subject = plant.stream_address(stream)
        self._clock = plant.stream(stream).clock
        self._source = source
        self._epoch = epoch
        self._seq = 0
        self._trace = trace

    def message(self, payload: Payload) -> Message:
        """Return the next message of the stream. Its id never repeats inside an epoch."""
        envelope = Envelope(
            id=f"{self._subject}:{self._epoch}:{self._seq}",
            source=self._source,
            type=self._type,
            subject=self._subject,
            time=rfc3339(_event_ns(payload)),
            seq=self._seq,
            epoch=self._epoch,
            clock=self._clock,
            content_type=f"application/avro; schema={NEWEST[self._type].label}",
        )
        self._seq += 1
        headers = envelope.to_headers()
        if self._trace is not None and (parent := self._trace(envelope.id)) is not None:
            headers[TRACE_HEADER] = parent
        return Message(self._topic, self._key, encode(payload), headers)


def _event_ns(payload: Payload) -> int:
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[0])
    return payload.t_start_ns if isinstance(payload, AudioChunk) else payload.t_capture_ns
