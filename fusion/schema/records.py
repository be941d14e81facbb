"""What crosses the broker: messages out, records in, and the CloudEvents envelope in their headers.

Event time is in the payload (see :mod:`fusion.schema.payloads`); the broker's time stamp only says
when the broker saw the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fusion.errors import DeadLetterReason, RecordError

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""Larger values are dead-lettered before anything tries to decode them."""
MAX_CLAIMED_BYTES = 64 * 1024 * 1024
"""The same bound for values that lie in the object store, see :mod:`fusion.stream.claims`."""
UNREAD_HEADER = "unread"
"""``reason: why`` a connector could not read a record.

What stands in its place has no key, no value and no other header: only its position is known.
"""
CLAIM_HEADER = "ce_dataref"
"""CloudEvents' extension *dataref* (claim check pattern): where the value of a record lies."""


def rfc3339(t_ns: int) -> str:
    """Return the time as CloudEvents writes it, to the nanosecond.

    Example:
        >>> rfc3339(1_767_225_600_500_000_000)
        '2026-01-01T00:00:00.500000000Z'
    """
    return f"{np.datetime64(t_ns, 'ns')}Z"


class TopicPartition(NamedTuple):
    """One ordered log of the broker."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Offsets of a partition that the broker had deleted before this reader came to them.

    Marks of transactions have offsets too: there were at most so many records.

    Example:
        >>> Lost(TopicPartition("rig.audio", 0), 5, 9).num_offsets
        4
    """

    partition: TopicPartition
    start: int
    stop: int

    @property
    def num_offsets(self) -> int:
        """How many records there were at most."""
        return self.stop - self.start

    def __str__(self) -> str:
        return (
            f"every record must be read before the broker deletes it, but {self.num_offsets} "
            f"offsets of {self.partition.topic}/{self.partition.partition}, from {self.start} on, "
            "were gone; raise topics.retention_h in the plant file (`fusion topics apply`), or "
            "never let the reader be away for as long"
        )


@dataclass(frozen=True, slots=True)
class WireForm:
    """How a record lay on Kafka, where :class:`Record` says less: names that repeat, nulls.

    Example:
        >>> form = WireForm((("note", "1"), ("note", "2")), is_key_null=True)
        >>> WireForm.from_text(form.to_text()) == form
        True
    """

    pairs: tuple[tuple[str, str], ...]
    """All headers in their order."""
    is_key_null: bool = False
    is_value_null: bool = False

    def to_text(self) -> str:
        """Return it as JSON in ASCII."""
        return json.dumps([self.pairs, self.is_key_null, self.is_value_null])

    @classmethod
    def from_text(cls, text: str) -> WireForm:
        """Return what :meth:`to_text` wrote.

        Raises:
            ValueError: It did not write ``text``.
        """
        try:
            pairs, is_key_null, is_value_null = json.loads(text)
            named = tuple((str(name), str(value)) for name, value in pairs)
        except TypeError as wrong:
            raise ValueError(
                f"a wire form must be what fusion writes, got {text[:80]!r}"
            ) from wrong
        return cls(named, bool(is_key_null), bool(is_value_null))


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish. ``key`` decides the partition: equal keys stay in order.

    Where ``partition`` is given, it decides; all messages of a key must then have the same. Where
    ``form`` is given, Kafka gets its headers and its nulls; the embedded broker has neither.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    partition: int | None = None
    form: WireForm | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A message that the broker has stored, with its position.

    Of names that repeat, ``headers`` has the last; a key or value that is null is empty here. Then
    ``form`` says how it lay on the broker.
    """

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    t_broker_ns: int
    form: WireForm | None = None

    @property
    def topic_partition(self) -> TopicPartition:
        """The log that this record lies in."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Envelope:
    """CloudEvents 1.0 attributes in Kafka's binary mode, plus the product's own ``seq``/``epoch``.

    A jump of ``seq`` inside one ``epoch`` is a gap; a new ``epoch`` is a restart of the sender.
    ``clock`` names the clock that stamped the payload (``source``, ``server`` or ``receive``).
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    seq: int
    epoch: str
    clock: str = "source"
    content_type: str = "application/avro"

    @property
    def stream(self) -> str:
        """The stream's own name, the last level of its address in ``subject``."""
        return self.subject.rpartition("/")[2]

    def to_headers(self) -> dict[str, str]:
        """Return the Kafka headers that carry this envelope."""
        return {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": self.source,
            "ce_type": self.type,
            "ce_subject": self.subject,
            "ce_time": self.time,
            "content-type": self.content_type,
            "seq": str(self.seq),
            "epoch": self.epoch,
            "clock": self.clock,
        }

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Envelope:
        """Return the envelope that ``headers`` carry.

        Raises:
            RecordError: A header is missing, ``seq`` is no whole number, or bytes are no UTF-8: of
                the name of any header, or of a value that the envelope carries.

        Example:
            >>> sent = Envelope("7", "edge-1", "fusion.telemetry", "a/b/c/d/e/f/g", "", 7, "boot-1")
            >>> Envelope.from_headers(sent.to_headers()) == sent
            True
        """
        try:
            envelope = cls(
                id=headers["ce_id"],
                source=headers["ce_source"],
                type=headers["ce_type"],
                subject=headers["ce_subject"],
                time=headers["ce_time"],
                seq=int(headers["seq"]),
                epoch=headers["epoch"],
                clock=headers["clock"],
                content_type=headers["content-type"],
            )
        except KeyError as missing:
            raise RecordError(
                DeadLetterReason.HEADERS,
                f"a record must carry the header {missing}; it has {sorted(headers)}; "
                "publish it with fusion.schema.Envelope.to_headers",
            ) from missing
        except ValueError as wrong:
            raise RecordError(
                DeadLetterReason.HEADERS,
                f"the header 'seq' must be a whole number, got {headers.get('seq')!r}; "
                "count records per stream from 0",
            ) from wrong
        if "".join((*headers, *headers.values())).isascii():  # (as nearly always)
            return envelope
        for name in headers:
            if not _is_utf8(name):
                raise RecordError(
                    DeadLetterReason.HEADERS,
                    f"the name of a header must be UTF-8, got {name!r}; "
                    "name it as Kafka says, or leave it out",
                )
        for name in envelope.to_headers():
            if not _is_utf8(headers.get(name, "")):
                raise RecordError(
                    DeadLetterReason.HEADERS,
                    f"the header {name!r} must be UTF-8, got {headers[name]!r}; "
                    "encode it as CloudEvents says",
                )
        return envelope


def _is_utf8(text: str) -> bool:
    """Whether no byte of ``text`` came as a lone surrogate, which no JSON document may hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
