"""Every kind of record that the gate has to refuse, and what it must say of each.

A poison spoils an ordinary message. Its name travels in the header ``poison``, so that whoever
judges a run knows what must become of every single record, whatever an unharmed run says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro
import numpy as np
from kafka.partitioner.default import murmur2
from PIL import Image

from fusion.errors import DeadLetterReason as Reason
from fusion.ports import ObjectStore
from fusion.schema import (
    MAX_CLAIMED_BYTES,
    MAX_RECORD_BYTES,
    AudioChunk,
    Message,
    Payload,
    TelemetryBatch,
    VideoFrame,
    WriterSchemas,
    encode,
)
from fusion.schema.versions import MARK, NEWEST
from fusion.stream.claims import Claim
from tests.faults.giants import giant_picture, giant_sound

POISON_HEADER = "poison"
NUM_PARTITIONS = 3
SOON_NS = 1_800_000_000_000_000_000
FAR_AHEAD_NS = 4_000_000_000_000_000_000

Spoil = Callable[[Message, Payload, random.Random], Message]


@dataclass(frozen=True)
class Poison:
    """One way to spoil a message of ``modality`` (any without), and the ``reason`` it must get.

    ``reason`` None: it is usable or late, or nobody can say beforehand; equal in every run.
    """

    spoil: Spoil
    reason: Reason | None
    modality: str | None = None


def _value(change: Callable[[bytes, random.Random], bytes]) -> Spoil:
    return lambda message, _payload, rng: dataclasses.replace(
        message, value=change(message.value, rng)
    )


def _header(name: str, text: str | None) -> Spoil:
    def spoil(message: Message, _payload: Payload, _rng: random.Random) -> Message:
        headers = {key: value for key, value in message.headers.items() if key != name}
        return dataclasses.replace(
            message, headers=headers if text is None else {**headers, name: text}
        )

    return spoil


def _subject(change: Callable[[str], str]) -> Spoil:
    def spoil(message: Message, _payload: Payload, _rng: random.Random) -> Message:
        headers = {**message.headers, "ce_subject": change(message.headers["ce_subject"])}
        return dataclasses.replace(message, headers=headers)

    return spoil


def _key(key: str) -> Spoil:
    return lambda message, _payload, _rng: dataclasses.replace(message, key=key)


def _elsewhere(message: Message, _payload: Payload, _rng: random.Random) -> Message:
    own = (murmur2(message.key.encode()) & 0x7FFFFFFF) % NUM_PARTITIONS
    return dataclasses.replace(message, partition=(own + 1) % NUM_PARTITIONS)


def _payload(**changes: Callable[[Any], Any]) -> Spoil:
    """Return what sends a whole payload that cannot be right; each change gets the payload."""

    def spoil(message: Message, payload: Payload, _rng: random.Random) -> Message:
        new: Any = {name: change(payload) for name, change in changes.items()}
        return dataclasses.replace(message, value=encode(dataclasses.replace(payload, **new)))

    return spoil


def _field(**changes: Callable[[Any], Any]) -> Spoil:
    """Return what sends right Avro with wrong fields; each change gets the field's content."""
    return _content(
        lambda content: content | {name: change(content[name]) for name, change in changes.items()}
    )


def _content(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    """Return what sends right Avro with other fields; the change gets all of them."""

    def spoil(message: Message, _payload: Payload, _rng: random.Random) -> Message:
        ce_type = message.headers["ce_type"]
        content = change(WriterSchemas().read(ce_type, message.value))
        buffer = io.BytesIO()
        buffer.write(NEWEST[ce_type].header)
        fastavro.schemaless_writer(buffer, NEWEST[ce_type].parsed, content)
        return dataclasses.replace(message, value=buffer.getvalue())

    return spoil


def _flip(value: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(value) // 4, len(value) - 64)
    return value[:at] + bytes(64) + value[at + 64 :]


def _as_png(jpeg: bytes) -> bytes:
    png = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(png, format="PNG")
    return png.getvalue()


def _of_camera(subject: str) -> str:
    return f"{subject.rpartition('/')[0]}/camera"


_NO_UTF8 = b"\xff\xfe".decode(errors="surrogateescape")

ON_THE_WAY: dict[str, Poison] = {
    # Avro, or not even that.
    "empty": Poison(_value(lambda _value, _rng: b""), Reason.WRONG_SCHEMA),
    "random bytes": Poison(
        _value(lambda value, rng: b"?" + rng.randbytes(len(value))), Reason.WRONG_SCHEMA
    ),
    "JSON instead of Avro": Poison(
        _value(lambda _value, _rng: b'{"tank_level": 1.0}'), Reason.WRONG_SCHEMA
    ),
    "cut in half": Poison(
        _value(lambda value, _rng: value[: len(value) // 2]), Reason.WRONG_SCHEMA
    ),
    "something appended": Poison(_value(lambda value, _rng: value + b"\0"), Reason.WRONG_SCHEMA),
    "overwritten in the middle": Poison(_value(_flip), None),
    "of an unknown schema": Poison(
        _value(lambda value, rng: MARK + rng.randbytes(8) + value[10:]), Reason.UNKNOWN_SCHEMA
    ),
    "too large": Poison(_value(lambda _value, _rng: bytes(MAX_RECORD_BYTES + 1)), Reason.TOO_LARGE),
    # Headers and key.
    "no subject": Poison(_header("ce_subject", None), Reason.HEADERS),
    "no type": Poison(_header("ce_type", None), Reason.HEADERS),
    "no epoch": Poison(_header("epoch", None), Reason.HEADERS),
    "no sequence number": Poison(_header("seq", None), Reason.HEADERS),
    "a sequence number that is none": Poison(_header("seq", "seven"), Reason.HEADERS),
    "a header that is no text": Poison(_header("epoch", _NO_UTF8), Reason.HEADERS),
    "a header whose name is no text": Poison(_header(_NO_UTF8, "1"), Reason.HEADERS),
    "a sequence number that is no text": Poison(_header("seq", _NO_UTF8), Reason.HEADERS),
    "unknown type": Poison(_header("ce_type", "fusion.smell"), Reason.WRONG_SCHEMA),
    "another type's schema": Poison(
        _header("ce_type", "fusion.telemetry"), Reason.WRONG_SCHEMA, "audio"
    ),
    "unknown subject": Poison(
        _subject(lambda _subject: "a/b/c/d/e/f/nobody"), Reason.UNKNOWN_STREAM
    ),
    "a stream that the plant has not": Poison(
        _subject(lambda subject: f"{subject.rpartition('/')[0]}/nose"), Reason.UNKNOWN_STREAM
    ),
    "a subject of another plant": Poison(
        _subject(lambda subject: subject.replace("pump-", "fan-")), Reason.UNKNOWN_STREAM
    ),
    "a stranger's key": Poison(_key("who/is/this"), Reason.UNKNOWN_STREAM),
    "no key": Poison(_key(""), Reason.UNKNOWN_STREAM),
    "a key that is no text": Poison(_key(_NO_UTF8), Reason.UNKNOWN_STREAM),
    "in a partition that is not its key's": Poison(_elsewhere, Reason.WRONG_PARTITION),
    # Whole records that do not fit the plant.
    "another modality": Poison(_subject(_of_camera), Reason.STREAM_MISMATCH, "audio"),
    "an unknown tag": Poison(
        _payload(tags=lambda batch: ("nobody", *batch.tags[1:])),
        Reason.STREAM_MISMATCH,
        "telemetry",
    ),
    "half the sample rate": Poison(
        _payload(sample_rate_hz=lambda chunk: chunk.sample_rate_hz // 2),
        Reason.STREAM_MISMATCH,
        "audio",
    ),
    "without the time that counts": Poison(
        _payload(t_receive_ns=lambda _chunk: 0), Reason.STREAM_MISMATCH, "audio"
    ),
    # Time.
    "telemetry far ahead": Poison(
        _payload(t_source_R_ns=lambda batch: batch.t_source_R_ns + FAR_AHEAD_NS),
        Reason.FUTURE_TIME,
        "telemetry",
    ),
    "a frame far ahead": Poison(
        _payload(t_capture_ns=lambda frame: frame.t_capture_ns + FAR_AHEAD_NS),
        Reason.FUTURE_TIME,
        "video",
    ),
    "telemetry of long ago": Poison(
        _payload(t_source_R_ns=lambda batch: batch.t_source_R_ns - 10**18), None, "telemetry"
    ),
    "a frame of long ago": Poison(
        _payload(t_capture_ns=lambda frame: frame.t_capture_ns - 10**18), None, "video"
    ),
    # Numbers, sounds and pictures.
    "values that are no numbers": Poison(
        _payload(values_RC=lambda batch: np.full_like(batch.values_RC, np.nan)), None, "telemetry"
    ),
    "a column too short": Poison(
        _field(values=lambda values: values[:-8]), Reason.UNDECODABLE, "telemetry"
    ),
    "a batch without rows": Poison(
        _field(num_rows=lambda _rows: 0), Reason.UNDECODABLE, "telemetry"
    ),
    "more rows than there may be": Poison(
        _field(num_rows=lambda _rows: 2**31 - 1), Reason.UNDECODABLE, "telemetry"
    ),
    "a tag twice": Poison(
        _field(tags=lambda tags: [tags[0], tags[0], *tags[2:]]), Reason.UNDECODABLE, "telemetry"
    ),
    "broken FLAC": Poison(
        _field(data=lambda data: b"fLaC" + bytes(len(data))), Reason.UNDECODABLE, "audio"
    ),
    "fewer samples than announced": Poison(
        _field(num_samples=lambda count: count + 1), Reason.UNDECODABLE, "audio"
    ),
    "more samples than there may be": Poison(
        _field(num_samples=lambda _count: 2**31 - 1), Reason.UNDECODABLE, "audio"
    ),
    "a JPEG cut in half": Poison(
        _field(data=lambda data: data[: len(data) // 2]), Reason.UNDECODABLE, "video"
    ),
    "no JPEG": Poison(_field(data=lambda _data: b"picture"), Reason.UNDECODABLE, "video"),
    "PNG instead of JPEG": Poison(_field(data=_as_png), Reason.UNDECODABLE, "video"),
    "a JPEG of another size": Poison(
        _field(width_px=lambda width: width * 2), Reason.UNDECODABLE, "video"
    ),
    "a picture that unfolds into a giant": Poison(
        _content(giant_picture), Reason.UNDECODABLE, "video"
    ),
    "a sound that unfolds into a giant": Poison(_content(giant_sound), Reason.UNDECODABLE, "audio"),
}


Claimed = Callable[[Message, ObjectStore, str, int], Message]


def _claim(
    *,
    store: Callable[[bytes], bytes | None] = lambda value: value,
    keeps_value: bool = False,
    **changes: Callable[[str], str | None],
) -> Claimed:
    """Return what claims a message wrongly: another object, or other headers."""

    def spoil(message: Message, objects: ObjectStore, prefix: str, now_ns: int) -> Message:
        # Claims are named by their content: an object of another message must not be replaced.
        value = message.value + message.headers["ce_id"].encode()
        claim = Claim.of(value, prefix=prefix, now_ns=now_ns)
        stored = store(value)
        if stored is not None:
            objects.put(claim.key, stored)
        headers: dict[str, str | None] = {**message.headers, **claim.to_headers()}
        headers |= {name: change(headers[name] or "") for name, change in changes.items()}
        kept = {name: text for name, text in headers.items() if text is not None}
        return dataclasses.replace(
            message, value=message.value if keeps_value else b"", headers=kept
        )

    return spoil


CLAIMS: dict[str, tuple[Claimed, Reason]] = {
    "claimed: the object never came": (_claim(store=lambda _value: None), Reason.CLAIM_MISSING),
    "claimed: the object was changed": (
        _claim(store=lambda value: bytes(len(value))),
        Reason.CLAIM_MISMATCH,
    ),
    "claimed: the object is too short": (
        _claim(store=lambda value: value[:-1]),
        Reason.CLAIM_MISMATCH,
    ),
    "claimed: the object is too long": (
        _claim(store=lambda value: value + b"\0"),
        Reason.CLAIM_MISMATCH,
    ),
    "claimed: what is there is no payload": (_claim(), Reason.WRONG_SCHEMA),
    "claimed: another hash": (
        _claim(sha256=lambda text: hashlib.sha256(text.encode()).hexdigest()),
        Reason.HEADERS,
    ),
    "claimed: a way out of the store": (
        _claim(ce_dataref=lambda key: f"../../{key}"),
        Reason.HEADERS,
    ),
    "claimed: no length": (_claim(length=lambda _length: None), Reason.HEADERS),
    "claimed: a length that is none": (_claim(length=lambda _length: "many"), Reason.HEADERS),
    "claimed: too large": (
        _claim(length=lambda _length: str(MAX_CLAIMED_BYTES + 1)),
        Reason.TOO_LARGE,
    ),
    "claimed: a value beside the claim": (_claim(keeps_value=True), Reason.HEADERS),
}
"""These need the object store of the run, so they are spoilt when they are published."""

AS_PUBLISHED: dict[str, Reason] = {"a batch that unfolds into a giant": Reason.TOO_LARGE}
"""Whole batches: they are made when they are published, see :mod:`tests.faults.giants`."""

EVERY_RECORD = "every record of one plant"
"""All that this plant says is poison: nothing of it is ever aligned, and it must hold up nobody."""

COMMANDS: dict[str, tuple[bytes, Reason]] = {
    "a command that is no JSON": (b"acknowledge!", Reason.WRONG_SCHEMA),
    "a command to nobody": (
        b'{"id": "1", "plant": "who/is/this", "name": "rig-abnormal", "action": "acknowledge", '
        b'"expected_revision": 1, "who": "campaign", "t_ns": 1}',
        Reason.UNKNOWN_STREAM,
    ),
    "a command about no alarm": (
        b'{"id": "2", "plant": "ADDRESS", "name": "no-alarm-of-mine", "action": "acknowledge", '
        b'"expected_revision": 1, "who": "campaign", "t_ns": 1}',
        Reason.UNKNOWN_ALARM,
    ),
}
"""What comes on the topic of the operators' commands and cannot be obeyed. ADDRESS is a plant's."""


def reason_of(poison: str) -> Reason | None:
    """Return what the dead letter of a poisoned record must say; None where nobody can say."""
    if poison in CLAIMS:
        return CLAIMS[poison][1]
    if poison == EVERY_RECORD:
        return Reason.WRONG_SCHEMA
    if poison in AS_PUBLISHED:
        return AS_PUBLISHED[poison]
    return COMMANDS[poison][1] if poison in COMMANDS else ON_THE_WAY[poison].reason


def modality_of(payload: Payload) -> str:
    """Return the modality of a payload."""
    kinds = {TelemetryBatch: "telemetry", AudioChunk: "audio", VideoFrame: "video"}
    return kinds[type(payload)]
