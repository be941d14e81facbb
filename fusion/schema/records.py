"""What crosses the broker: messages out, records in, and the CloudEvents envelope in their headers.

Event time is in the payload (see :mod:`fusion.schema.payloads`); the broker's time stamp only says
when the broker saw the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fusion.errors import DeadLetterReason, RecordError

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""Larger values are dead-lettered before anything tries to decode them."""
MAX_CLAIMED_BYTES = 64 * 1024 * 1024
"""The same bound for values that lie in the object store, see :mod:`fusion.stream.claims`."""
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
class Message:
    """Something to publish. ``key`` decides the partition: equal keys stay in order.

    Where ``partition`` is given, it decides; all messages of a key must then have the same.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A message that the broker has stored, with its position."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    t_broker_ns: int

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
