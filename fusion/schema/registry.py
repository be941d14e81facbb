"""The schemas that records may be written with: the released ones, and those learnt while running.

A sender may be newer than its reader. It publishes the schemas that it writes with on a compacted
topic; a reader that meets an unknown fingerprint looks there before it refuses the record.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import fastavro
from fastavro.read import SchemaResolutionError

from fusion.errors import DeadLetterReason, RecordError, SchemaError
from fusion.schema.records import Message, Record
from fusion.schema.resolution import parse_foreign, require_resolvable
from fusion.schema.versions import HEADER_BYTES, MARK, NEWEST, RELEASED, PayloadSchema, newest

MAX_LEARNT = 256
"""Schemas that one process learns: more than a plant has senders, and a bound for its memory."""

MAX_REASON_CHARS = 500
"""A refused schema may be long, and what is said of it goes into the header of a dead letter."""

LookUp = Callable[[str], Iterable[Record]]
"""Takes an unknown fingerprint; returns records of the schema topic that came since last asked."""

_BROKEN = (
    EOFError,
    ValueError,
    IndexError,
    OverflowError,
    TypeError,
    SchemaResolutionError,
)


class _Known(NamedTuple):
    schema: PayloadSchema
    reader: Any
    """What values are resolved to; None where they are written in just that."""


class WriterSchemas:
    """Reads values by the schema that their fingerprint names.

    ``look_up`` is asked for published schemas when a fingerprint is unknown; without it only
    :meth:`learn` and :meth:`learn_from` add to the ``released`` ones. What ``look_up`` raises
    passes through: a record is not refused because the broker did not answer.
    """

    def __init__(
        self, released: Iterable[PayloadSchema] = RELEASED, *, look_up: LookUp | None = None
    ) -> None:
        released = tuple(released)
        self._readers = newest(released)
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[str, str] = {}
        self._num_learnt = 0
        self._look_up = look_up
        for schema in released:
            self._add(schema)

    def learn(self, schema_json: bytes) -> str:
        """Read what is written with this schema from now on, and return its fingerprint.

        Raises:
            SchemaError: Too large, not plain, not resolvable to what is read here, or one too many.
        """
        schema = parse_foreign(schema_json)
        if schema.header in self._known:
            return schema.fingerprint
        reader = self._readers.get(schema.ce_type)
        if reader is None:
            raise SchemaError(
                f"a writer schema must be named one of {sorted(self._readers)}, "
                f"got {schema.ce_type!r}; name the record like the ce_type of its values"
            )
        require_resolvable(schema, reader)
        if self._num_learnt == MAX_LEARNT:
            raise SchemaError(
                f"a process must not learn more than {MAX_LEARNT} schemas, "
                f"{schema.label} would be one more; delete old ones from the topic and restart"
            )
        self._add(schema)
        self._num_learnt += 1
        return schema.fingerprint

    def learn_from(self, records: Iterable[Record]) -> dict[str, str]:
        """Learn from records of the schema topic; return why those that are of no use are not.

        The answer has their keys. It is also said of every record that was written with one.
        """
        refused: dict[str, str] = {}
        for record in records:
            # A deleted schema; what is known of it stays, for records that are still to be read.
            if not record.value:
                continue
            try:
                learnt = self.learn(record.value)
            except SchemaError as error:
                refused[record.key] = str(error)[:MAX_REASON_CHARS]
                continue
            if learnt != record.key:
                refused[record.key] = (
                    f"the key must be the schema's fingerprint {learnt}; "
                    "publish it with fusion.schema.schema_messages"
                )
        room = MAX_LEARNT - len(self._refused)
        self._refused.update(list(refused.items())[:room])
        return refused

    def read(self, ce_type: str, value: bytes) -> dict[str, Any]:
        """Return the fields of ``value``, as the newest schema of ``ce_type`` has them.

        Raises:
            RecordError: No single-object encoding, an unknown writer schema, one of another
                ``ce_type``, or a body that it does not fit.
        """
        known = self._known.get(value[:HEADER_BYTES]) or self._find(ce_type, value)
        if known.schema.ce_type != ce_type:
            raise _wrong_schema(ce_type, f"it is written with {known.schema.label}")
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        try:
            content: Any = fastavro.schemaless_reader(  # pyright: ignore[reportUnknownMemberType]
                body, known.schema.parsed, known.reader
            )
        except _BROKEN as broken:
            came = (
                f"reading it as {known.schema.label} stopped with {type(broken).__name__}: {broken}"
            )
            raise _wrong_schema(ce_type, came) from broken
        if body.tell() != len(value):
            left = len(value) - body.tell()
            raise _wrong_schema(ce_type, f"{left} bytes are left over after {known.schema.label}")
        return content

    def _add(self, schema: PayloadSchema) -> None:
        reader = self._readers[schema.ce_type]
        is_same = schema.header == reader.header
        self._known[schema.header] = _Known(schema, None if is_same else reader.parsed)

    def _find(self, ce_type: str, value: bytes) -> _Known:
        """Return the schema of a value whose header is unknown so far, or refuse the value."""
        header = value[:HEADER_BYTES]
        if len(header) < HEADER_BYTES or not header.startswith(MARK):
            raise _wrong_schema(ce_type, f"it begins with {header.hex() or 'nothing'}")
        fingerprint = header[len(MARK) :].hex()
        if self._look_up is not None:
            self.learn_from(self._look_up(fingerprint))
            if header in self._known:
                return self._known[header]
        why = self._refused.get(fingerprint, "it is neither released here nor published")
        raise RecordError(
            DeadLetterReason.UNKNOWN_SCHEMA,
            f"the writer schema {fingerprint} must be known, but: {why}; publish it on the plant's "
            "topic of schemas before the first record (fusion.schema.schema_messages), "
            "or upgrade this process",
        )


def schema_messages(topic: str, schemas: Iterable[PayloadSchema] | None = None) -> list[Message]:
    """Return what a sender publishes on ``topic`` before its first record: what it writes with.

    Example:
        >>> sound, *_ = schema_messages("rig.schemas")
        >>> sound.key, sound.value[:40]
        ('ff004f479b0436c9', b'{"type":"record","name":"fusion.audio","')
    """
    return [
        Message(topic, schema.fingerprint, schema.text.encode(), {"content-type": _CONTENT_TYPE})
        for schema in (NEWEST.values() if schemas is None else schemas)
    ]


_CONTENT_TYPE = "application/json"


def _wrong_schema(ce_type: str, what_came: str) -> RecordError:
    return RecordError(
        DeadLetterReason.WRONG_SCHEMA,
        f"the value must be Avro of {ce_type} in single-object encoding ({MARK.hex()}, 8 bytes of "
        f"fingerprint, body), but {what_came}; encode it with fusion.schema.encode",
    )
