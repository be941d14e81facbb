"""The local log of a spool: what waits for the broker, in order, on disk.

An embedded broker with one topic and one partition; what is committed there is on the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fusion.errors import BrokerUnavailableError, SpoolFullError
from fusion.ports import Publisher, Source
from fusion.schema import Message, Record, TopicPartition

SPOOL_TOPIC = "spool"
SPOOL_GROUP = "spool"
RECORD_OVERHEAD_BYTES = 128
"""Of the local log, for each record beside its own bytes."""

_PART = TopicPartition(SPOOL_TOPIC, 0)
_TOPIC_HEADER = "spool-topic"


class Oldest(NamedTuple):
    """The first messages that wait. Those below ``end`` are they and what was there before."""

    messages: list[Message]
    end: int
    num_bytes: int


class SpoolLog:
    """Counts what waits, and keeps at most ``max_bytes`` of it."""

    def __init__(
        self,
        publisher: Publisher,
        source: Source,
        *,
        trim: Callable[[Mapping[TopicPartition, int]], None],
        max_bytes: int,
    ) -> None:
        self._publisher = publisher
        self._source = source
        self._trim = trim
        self._max_bytes = max_bytes
        self.end = self._source.end_offsets()[_PART]
        self.num_bytes = 0
        self._start = self.end
        self._trimmed = -1
        while records := self._source.poll(timeout_s=0):
            self._start = min(self._start, records[0].offset)
            self.num_bytes += sum(map(_num_bytes, records))

    @property
    def num_records(self) -> int:
        """How many messages wait."""
        return self.end - self._start

    def append(self, messages: Sequence[Message], *, why: Exception | None) -> int:
        """Write ``messages`` and return their bytes; ``why`` is what they wait for.

        Raises:
            SpoolFullError: There is no room, and nothing was written.
        """
        wrapped = [_wrap(message) for message in messages]
        num_bytes = sum(map(_num_bytes, wrapped))
        if self.num_bytes + num_bytes > self._max_bytes:
            raise SpoolFullError(
                f"at most {self._max_bytes / 1e6:.0f} MB may wait while the broker is away, "
                f"{self.num_bytes / 1e6:.1f} MB do and {num_bytes / 1e6:.1f} MB came; call again "
                f"when it is back, or raise FUSION_SPOOL_MAX_MB ({why})"
            )
        try:
            self._publisher.publish(wrapped)
        except BrokerUnavailableError as failed:
            raise SpoolFullError(
                f"what waits for the broker must fit on the disk, but: {failed}; nothing of this "
                "call was kept; make room, or point FUSION_SPOOL_DIR at another disk"
            ) from failed
        self.end += len(wrapped)  # (asking could fail, and what is kept would not be known)
        self.num_bytes += num_bytes
        return num_bytes

    def oldest(self, *, max_bytes: int) -> Oldest:
        """Return as many of the first messages as fit in ``max_bytes``, one at least."""
        self._source.seek({_PART: self._start})
        records = self._source.poll(timeout_s=0)
        assert records, f"{self.num_records} records wait, but none was read"
        bundle = records[:1]
        num_bytes = _num_bytes(records[0])
        for record in records[1:]:
            if num_bytes + _num_bytes(record) > max_bytes:
                break
            num_bytes += _num_bytes(record)
            bundle.append(record)
        return Oldest([_unwrap(record) for record in bundle], bundle[-1].offset + 1, num_bytes)

    def drop(self, *, end: int, num_bytes: int) -> None:
        """Note that what lies below ``end`` is on the broker; :meth:`tidy` deletes it."""
        if end > self._start:
            self._start = end
            self.num_bytes = self.num_bytes - num_bytes if self.num_records else 0

    def tidy(self) -> None:
        """Commit and delete what is on the broker, unless that is done.

        Raises:
            BrokerUnavailableError: The disk is full; call again later.
        """
        if self._trimmed < self._start:
            self._publisher.publish([], commit={_PART: self._start})
            self._trim({_PART: self._start})
            self._trimmed = self._start

    def close(self) -> None:
        """Free everything."""
        self._publisher.close()
        self._source.close()


def _wrap(message: Message) -> Message:
    assert message.partition is None, "the keys of senders decide"
    headers = {**message.headers, _TOPIC_HEADER: message.topic}
    return Message(SPOOL_TOPIC, message.key, message.value, headers)


def _unwrap(record: Record) -> Message:
    headers = dict(record.headers)
    return Message(headers.pop(_TOPIC_HEADER), record.key, record.value, headers)


def _num_bytes(each: Message | Record) -> int:
    headers = sum(len(name) + len(text) for name, text in each.headers.items())
    return len(each.value) + len(each.key) + headers + RECORD_OVERHEAD_BYTES
