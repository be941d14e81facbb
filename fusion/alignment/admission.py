"""The gate: what a record must be to enter a tick. Everything else becomes a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fusion.alignment.event_time import Stamps, stamps
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream
from fusion.schema import (
    CLAIM_HEADER,
    MAX_CLAIMED_BYTES,
    MAX_RECORD_BYTES,
    UNREAD_HEADER,
    AudioChunk,
    Envelope,
    Message,
    Payload,
    Record,
    TelemetryBatch,
    VideoFrame,
    WireForm,
    WriterSchemas,
    decode_payload,
)

_POSITION = ("topic", "partition", "offset")
_PAYLOADS = {"telemetry": TelemetryBatch, "audio": AudioChunk, "video": VideoFrame}

MAX_KEPT_BYTES, MAX_KEPT_HEADERS_BYTES = MAX_RECORD_BYTES + 16 * 1024, 32 * 1024
"""Of a refused record: value, and key with headers. Together they fit into a dead letter."""
MAX_REASON_TEXT = 2_000
CUT_TEXT, CUT_HEADERS, CUT_BYTES = 256, 64, 64 * 1024


class Admitted(NamedTuple):
    """What a record says, once it is known that the plant can use it."""

    envelope: Envelope
    payload: Payload
    stamps: Stamps

    @classmethod
    def of(cls, envelope: Envelope, payload: Payload, stream: Stream) -> Admitted:
        """Return what ``stream`` says with this payload."""
        return cls(envelope, payload, stamps(payload, stream))


class Admission:
    """What the records of one plant must be.

    ``schemas`` are those that they may be written with, None is the released ones; ``resolve``
    fetches the values that lie in the object store.
    """

    def __init__(
        self,
        plant: Plant,
        schemas: WriterSchemas | None = None,
        resolve: Callable[[Record], Record] | None = None,
    ) -> None:
        self._plant = plant
        self._schemas = schemas
        self._resolve = resolve
        self._max_future_ns = round(plant.max_future_s * NANOSECONDS)
        self._stream_of = {plant.stream_address(each.name): each for each in plant.streams}
        self._tags_of = {s.name: {tag.name for tag in s.tags} for s in plant.telemetry_streams}

    def admit(self, record: Record) -> Admitted:
        """Return what a record says that the plant can use: envelope, payload, times.

        Raises:
            RecordError: What must hold, what came, what to change; its ``reason`` names the rule.
        """
        if self._resolve is not None:
            record = self._resolve(record)
        envelope = Envelope.from_headers(record.headers)
        stream = self._stream_of.get(envelope.subject)
        if stream is None:
            raise _unknown_stream(envelope, self._plant)
        is_claimed = CLAIM_HEADER in record.headers
        max_bytes = MAX_CLAIMED_BYTES if is_claimed else MAX_RECORD_BYTES
        payload = decode_payload(envelope, record.value, self._schemas, max_bytes=max_bytes)
        self._require_fits(payload, stream)
        admitted = Admitted.of(envelope, payload, stream)
        # The broker's stamp, not this machine's clock: read again, a record gets the same answer.
        ahead_ns = admitted.stamps.newest_ns - record.t_broker_ns
        if ahead_ns > self._max_future_ns:
            raise RecordError(
                DeadLetterReason.FUTURE_TIME,
                f"event time must not be more than {self._plant.max_future_s:g} s ahead of the "
                f"broker, got {ahead_ns / NANOSECONDS:.3f} s ahead on {stream.name!r}; "
                "set the clock of the sender, or declare its clock_offset_s",
            )
        return admitted

    def _require_fits(self, payload: Payload, stream: Stream) -> None:
        if not isinstance(payload, _PAYLOADS[stream.modality]):
            raise _mismatch(stream, f"be {stream.modality}", type(payload).__name__)
        if isinstance(payload, TelemetryBatch):
            unknown = set(payload.tags) - self._tags_of[stream.name]
            if unknown:
                also = f"also {sorted(unknown)}"
                raise _mismatch(stream, "carry tags of the plant file only", also)
        if (
            isinstance(stream, AudioStream)
            and isinstance(payload, AudioChunk)
            and payload.sample_rate_hz != stream.sample_rate_hz
        ):
            came = f"{payload.sample_rate_hz} Hz"
            raise _mismatch(stream, f"have {stream.sample_rate_hz} Hz", came)
        if stream.clock == "receive" and not _has_receive_times(payload):
            raise _mismatch(
                stream,
                "say when it was received (clock: receive)",
                "t_receive = 0, which is unknown",
            )


def admit(record: Record, plant: Plant, schemas: WriterSchemas | None = None) -> Admitted:
    """Return what one record says that ``plant`` can use; :class:`Admission` is for many.

    Raises:
        RecordError: See :meth:`Admission.admit`.
    """
    return Admission(plant, schemas).admit(record)


def dead_letter(record: Record, error: RecordError, plant: Plant) -> Message:
    """Return the message that keeps a refused record: its bytes, its headers, where it lay, why.

    ``record`` must be as the broker had it: one whose value was fetched from the object store may
    be too large for the broker, and its reference is enough. :func:`refused_record` is the way
    back. Of one that is larger than any record may be (compressed, a broker takes it) only the
    beginning is kept, and the header ``cut`` says so: the letter itself must find its way.
    """
    kept = {_kept_name(name): value for name, value in record.headers.items()}
    if record.form is not None:
        kept["form"] = record.form.to_text()
    num_bytes = len(record.value)
    is_cut = num_bytes > MAX_KEPT_BYTES or _num_bytes(record.key, kept) > MAX_KEPT_HEADERS_BYTES
    if is_cut:
        kept.pop("form", None)
        kept = {name[:CUT_TEXT]: text[:CUT_TEXT] for name, text in list(kept.items())[:CUT_HEADERS]}
        kept["cut"] = f"{num_bytes} bytes and {len(record.headers)} headers"
    return Message(
        topic=plant.topic("dead-letters"),
        key=record.key[:CUT_TEXT] if is_cut else record.key,
        value=record.value[:CUT_BYTES] if is_cut else record.value,
        headers={
            **kept,
            "reason": error.reason.value,
            "message": str(error)[:MAX_REASON_TEXT],
            "original-topic": record.topic,
            "original-partition": str(record.partition),
            "original-offset": str(record.offset),
        },
    )


def refused_record(letter: Record) -> Record:
    """Return the record that ``letter``, a dead letter, keeps: as it lay on its topic.

    Raises:
        RecordError: The letter does not say where the record lay, or keeps only its beginning.
    """
    if "cut" in letter.headers:
        raise RecordError(
            DeadLetterReason.TOO_LARGE,
            "a record must be small enough to be kept whole, this one had "
            f"{letter.headers['cut']}; let its sender send it again, in smaller pieces",
        )
    if f"original-{UNREAD_HEADER}" in letter.headers and not letter.key and not letter.value:
        raise RecordError(
            DeadLetterReason.UNDECODABLE,
            "a record must have been read to be sent again, of this one only its place is known: "
            f"{letter.headers[f'original-{UNREAD_HEADER}']}",
        )
    kept = {
        name.removeprefix("original-"): text
        for name, text in letter.headers.items()
        if name.startswith("original-")
    }
    try:
        topic, partition, offset = (kept.pop(name) for name in _POSITION)
        form = letter.headers.get("form")
        return Record(
            topic=topic,
            partition=int(partition),
            offset=int(offset),
            key=letter.key,
            value=letter.value,
            headers={name.removeprefix("-"): text for name, text in kept.items()},
            t_broker_ns=letter.t_broker_ns,
            form=None if form is None else WireForm.from_text(form),
        )
    except (KeyError, ValueError) as wrong:
        raise RecordError(
            DeadLetterReason.HEADERS,
            f"a dead letter must say in {[f'original-{name}' for name in _POSITION]} where its "
            f"record lay, got the headers {sorted(letter.headers)}; let fusion write dead letters",
        ) from wrong


def _num_bytes(key: str, headers: Mapping[str, str]) -> int:
    texts = (key, *headers, *headers.values())
    return sum(len(text.encode(errors="surrogateescape")) for text in texts)


def _kept_name(name: str) -> str:
    """Return the header that keeps the header ``name``, never one of the letter's own."""
    escaped = f"-{name}" if name in _POSITION or name.startswith("-") else name
    return f"original-{escaped}"


def _unknown_stream(envelope: Envelope, plant: Plant) -> RecordError:
    return RecordError(
        DeadLetterReason.UNKNOWN_STREAM,
        f"ce_subject must be a stream of {plant.address}, got {envelope.subject!r}; the plant file "
        f"has {[stream.name for stream in plant.streams]}; add the stream there or mend the sender",
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
