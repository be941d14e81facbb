"""The gate: what a record must be to enter a tick. Everything else becomes a dead letter."""

from __future__ import annotations

from fusion.alignment.event_time import stamps
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream, TelemetryStream
from fusion.schema import (
    AudioChunk,
    Envelope,
    Message,
    Payload,
    Record,
    TelemetryBatch,
    VideoFrame,
    WriterSchemas,
    decode_payload,
)

_PAYLOADS = {"telemetry": TelemetryBatch, "audio": AudioChunk, "video": VideoFrame}


def admit(
    record: Record, plant: Plant, schemas: WriterSchemas | None = None
) -> tuple[Envelope, Payload]:
    """Return the envelope and the decoded payload of a record that ``plant`` can use.

    ``schemas`` are those it may be written with; None is the released ones.

    Raises:
        RecordError: What must hold, what came, what to change; its ``reason`` names the rule.
    """
    envelope = Envelope.from_headers(record.headers)
    stream = _known_stream(envelope, plant)
    payload = decode_payload(envelope, record.value, schemas)
    _require_fits(payload, stream)
    newest_ns = stamps(payload, stream).newest_ns
    # The broker's stamp, not this machine's clock: reading the record again gives the same answer.
    if newest_ns > record.t_broker_ns + round(plant.max_future_s * NANOSECONDS):
        ahead_s = (newest_ns - record.t_broker_ns) / NANOSECONDS
        raise RecordError(
            DeadLetterReason.FUTURE_TIME,
            f"event time must not be more than {plant.max_future_s:g} s ahead of the broker, "
            f"got {ahead_s:.3f} s ahead on {stream.name!r}; set the clock of the sender, "
            "or declare its clock_offset_s",
        )
    return envelope, payload


def dead_letter(record: Record, error: RecordError, plant: Plant) -> Message:
    """Return the message that keeps a refused record: its bytes, its headers, where it lay, why."""
    return Message(
        topic=plant.topic("dead-letters"),
        key=record.key,
        value=record.value,
        headers={
            "reason": error.reason.value,
            "message": str(error),
            "original-topic": record.topic,
            "original-partition": str(record.partition),
            "original-offset": str(record.offset),
            **{f"original-{name}": value for name, value in record.headers.items()},
        },
    )


def _known_stream(envelope: Envelope, plant: Plant) -> Stream:
    name = envelope.stream
    for stream in plant.streams:
        if stream.name == name and envelope.subject == plant.stream_address(name):
            return stream
    raise RecordError(
        DeadLetterReason.UNKNOWN_STREAM,
        f"ce_subject must be a stream of {plant.address}, got {envelope.subject!r}; the plant file "
        f"has {[stream.name for stream in plant.streams]}; add the stream there or mend the sender",
    )


def _require_fits(payload: Payload, stream: Stream) -> None:
    if not isinstance(payload, _PAYLOADS[stream.modality]):
        raise _mismatch(stream, f"be {stream.modality}", type(payload).__name__)
    if isinstance(stream, TelemetryStream) and isinstance(payload, TelemetryBatch):
        unknown = sorted(set(payload.tags) - {tag.name for tag in stream.tags})
        if unknown:
            raise _mismatch(stream, "carry tags of the plant file only", f"also {unknown}")
    if (
        isinstance(stream, AudioStream)
        and isinstance(payload, AudioChunk)
        and payload.sample_rate_hz != stream.sample_rate_hz
    ):
        raise _mismatch(stream, f"have {stream.sample_rate_hz} Hz", f"{payload.sample_rate_hz} Hz")
    if stream.clock == "receive" and not _has_receive_times(payload):
        raise _mismatch(
            stream, "say when it was received (clock: receive)", "t_receive = 0, which is unknown"
        )


def _has_receive_times(payload: Payload) -> bool:
    if isinstance(payload, TelemetryBatch):
        return bool((payload.t_receive_R_ns > 0).all())
    return payload.t_receive_ns > 0


def _mismatch(stream: Stream, must: str, came: str) -> RecordError:
    return RecordError(
        DeadLetterReason.STREAM_MISMATCH,
        f"stream {stream.name!r} must {must}, got {came}; mend the sender or the plant file",
    )
