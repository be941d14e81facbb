"""Mends of kafka-python 3.0.12: records that it cannot read.

- Kafka takes any bytes for a header's name. kafka-python decodes them strictly while it reads, and
  such a record ends every later ``poll`` at the same place, for ever. Here the bytes survive as
  they do in header values and keys: as lone surrogates, for the gate to refuse and to keep.
- A small batch may unfold into more than the machine's memory, and kafka-python unfolds it whole.
  Here it is left folded when it is larger than a sender of this product could have made it: in the
  place of each record comes one without a value that says why, for the stream to refuse.
- After a batch that really cannot be read (its checksum is wrong, its compression unknown) the next
  ``poll`` would never return. Here it fails again, at the same place.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from typing import Any

import lz4.frame  # pyright: ignore[reportMissingTypeStubs] it has none
import zstandard
from kafka.consumer.fetcher import Fetcher
from kafka.errors import UnsupportedCodecError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from fusion.schema import UNREAD_HEADER

MAX_UNFOLDED_BYTES = 64 * 1024 * 1024
"""Producers bound a batch before they fold it, by default to 1 MiB, and ours to about 4 MiB."""

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


def read_every_batch(consumer: Any) -> None:
    """Let ``consumer`` read past batches that it could not, and fail at damaged ones each time.

    ``tests/integration/test_kafka_poison.py`` and ``test_kafka_damage.py`` show whether it is still
    needed.
    """
    consumer._fetcher.PartitionRecords = _PartitionRecords  # noqa: SLF001 no other way to it


class _PartitionRecords(_LibrarysRecords):
    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        return super()._unpack_records(tp, _Batches(records), *deserializers)

    def take(self, *arguments: Any) -> list[Any]:
        try:
            return super().take(*arguments)
        except Exception:
            # A generator that has failed is at its end, and the library would ask it for ever.
            self.drain()
            raise


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

    def _maybe_uncompress(self) -> None:
        if self._decompressed:
            return
        unfold = _UNFOLD.get(self.compression_type)
        try:
            if unfold is None:
                # (snappy folds to a twentieth at best)
                super()._maybe_uncompress()
                return
            unfolded = unfold(bytes(memoryview(self._buffer)[self._pos :]))
        except (UnsupportedCodecError, MemoryError):
            raise
        except Exception as broken:  # noqa: BLE001 every codec has errors of its own
            came = f"{type(broken).__name__}: {broken}"
            self._leave_folded("undecodable", f"a batch must unfold, but: {came}; send it again")
            return
        if len(unfolded) > MAX_UNFOLDED_BYTES:
            self._leave_folded(
                "too-large",
                f"a batch must not unfold into more than {MAX_UNFOLDED_BYTES} bytes, but "
                f"{self.size_in_bytes} bytes of {self.records_count} records did; "
                "send smaller batches",
            )
            return
        self._decompressed = True
        self._buffer, self._pos = bytearray(unfolded), 0

    def _leave_folded(self, reason: str, why: str) -> None:
        self._decompressed = True
        self._buffer = bytearray(f"{reason}: {why}".encode())
        self._pos = len(self._buffer)
        self.__class__ = _FoldedBatch

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


class _FoldedBatch(_Batch):
    """A batch that stays folded: of its records only their places are known, and why."""

    __slots__ = ()

    def _read_msg(self, *_: Any) -> DefaultRecord:
        is_last = self._next_record_index == self._num_records - 1
        offset = self.last_offset if is_last else self.base_offset + self._next_record_index
        headers = [(UNREAD_HEADER, bytes(self._buffer))]
        stamp = (self.max_timestamp, self.timestamp_type)
        return DefaultRecord(0, offset, *stamp, None, None, headers)


def _unfold_gzip(folded: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(folded)) as reader:
        return reader.read(MAX_UNFOLDED_BYTES + 1)


def _unfold_lz4(folded: bytes) -> bytes:
    unfolded: bytes = lz4.frame.LZ4FrameDecompressor().decompress(folded, MAX_UNFOLDED_BYTES + 1)
    return unfolded


def _unfold_zstd(folded: bytes) -> bytes:
    decompressor = zstandard.ZstdDecompressor()
    with decompressor.stream_reader(folded, read_across_frames=True) as reader:
        return reader.read(MAX_UNFOLDED_BYTES + 1)


_UNFOLD: dict[int, Callable[[bytes], bytes]] = {
    DefaultRecordBatch.CODEC_GZIP: _unfold_gzip,
    DefaultRecordBatch.CODEC_LZ4: _unfold_lz4,
    DefaultRecordBatch.CODEC_ZSTD: _unfold_zstd,
}


def _nullable(buffer: Any, at: int) -> tuple[bytes | None, int]:
    """Return the bytes at ``at``, None for null, and where they end."""
    length, at = decode_varint(buffer, at)
    if length < 0:
        return None, at
    return bytes(buffer[at : at + length]), at + length
