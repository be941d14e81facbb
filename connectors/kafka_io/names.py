"""A mend of kafka-python 3.0.12: header names that are no UTF-8.

Kafka takes any bytes for a header's name. kafka-python decodes them strictly while it reads, and
such a record ends every later ``poll`` at the same place, for ever. Here the bytes survive as they
do in header values and keys: as lone surrogates, for the gate to refuse and to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

_LibrarysRecords: Any = Fetcher.PartitionRecords
_LibrarysBatch: Any = DefaultRecordBatch


class HeaderName(str):
    r"""A header's name that kafka-python writes and measures with the bytes that it came with.

    Example:
        >>> HeaderName(b"pump-\xff".decode(errors="surrogateescape")).encode("utf-8")
        b'pump-\xff'
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """Return the name's bytes, also those that were no UTF-8."""
        return super().encode(encoding, errors)


def read_any_header_name(consumer: Any) -> None:
    """Let ``consumer`` read records whose header names are no UTF-8.

    ``tests/integration/test_kafka_poison.py`` shows whether it is still needed.
    """
    consumer._fetcher.PartitionRecords = _PartitionRecords  # noqa: SLF001 no other way to it


class _PartitionRecords(_LibrarysRecords):
    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        return super()._unpack_records(tp, _Batches(records), *deserializers)


class _Batches:
    """What a fetch brought, batch by batch."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if type(batch) is DefaultRecordBatch:  # (older formats have no headers)
            # Made anew it would copy every byte once more.
            batch.__class__ = _Batch
        return batch


class _Batch(_LibrarysBatch):
    __slots__ = ()

    def _read_msg(self, *arguments: Any) -> Any:
        try:
            return super()._read_msg(*arguments)
        except UnicodeDecodeError:
            # The position has not moved: the record is read once more.
            return self._read_record()

    def _read_record(self) -> DefaultRecord:
        """Return the next record (the format is in Kafka's documentation, 5.3.2.1 Record)."""
        buffer = self._buffer
        length, start = decode_varint(buffer, self._pos)
        _attributes, at = decode_varint(buffer, start)
        delta_ms, at = decode_varint(buffer, at)
        offset_delta, at = decode_varint(buffer, at)
        key, at = _nullable(buffer, at)
        value, at = _nullable(buffer, at)
        num_headers, at = decode_varint(buffer, at)
        headers: list[tuple[HeaderName, bytes | None]] = []
        for _ in range(num_headers):
            name, at = _nullable(buffer, at)
            content, at = _nullable(buffer, at)
            headers.append((HeaderName((name or b"").decode(errors="surrogateescape")), content))
        if at != start + length:
            raise ValueError(f"a record of {length} bytes must be read whole, got {at - start}")
        self._pos = at
        is_appended = self.timestamp_type == self.LOG_APPEND_TIME
        t_ms = self.max_timestamp if is_appended else self.first_timestamp + delta_ms
        return DefaultRecord(
            length, self.base_offset + offset_delta, t_ms, self.timestamp_type, key, value, headers
        )


def _nullable(buffer: Any, at: int) -> tuple[bytes | None, int]:
    """Return the bytes at ``at``, None for null, and where they end."""
    length, at = decode_varint(buffer, at)
    if length < 0:
        return None, at
    return bytes(buffer[at : at + length]), at + length
