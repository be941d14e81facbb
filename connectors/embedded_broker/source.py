"""Reads the file, across partitions in the order in which records came."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from connectors.embedded_broker.file import EmbeddedBroker, num_partitions, unavailable
from connectors.embedded_broker.retention import partition_bounds
from fusion.schema import Lost, Record, TopicPartition

MAX_POLL_RECORDS = 500
MAX_POLL_BYTES = 8 * 1024 * 1024
IDLE_WAIT_S = 0.02


class EmbeddedSource:
    """Implements :class:`fusion.ports.Source` on an embedded broker.

    Where records at its position were deleted, it goes on at the oldest one kept and remembers what
    it has skipped: ``positions`` and the offsets of what comes next jump.
    """

    def __init__(self, broker: EmbeddedBroker, topics: Sequence[str], group: str) -> None:
        self._connection = broker.connect()
        self._topics = list(topics)
        self._group = group
        self._positions: dict[TopicPartition, int] = {}
        self._held: frozenset[TopicPartition] = frozenset()
        self._lost: list[Lost] = []
        self._refresh_partitions()

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records in the order in which the broker got them, across partitions."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with unavailable():
                records = self._fetch()
            if records or time.monotonic() >= deadline_s:
                return records
            time.sleep(min(IDLE_WAIT_S, max(0.0, deadline_s - time.monotonic())))

    def has_joined(self) -> bool:
        """Return whether there is something to read: without a group nothing else decides it."""
        return bool(self._positions)

    def assigned(self) -> dict[TopicPartition, int]:
        """Return every partition: one machine has one reader, nothing is ever taken away."""
        return dict.fromkeys(self._positions, 1)

    def keep_alive(self) -> None:
        """Nobody else waits for this reader's partitions."""

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Give no records of ``partitions`` until further notice, and those of all others."""
        self._held = frozenset(partitions)

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset of the next record that ``poll`` would give, per partition."""
        return dict(self._positions)

    def committed(
        self, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """Return what the group has committed of ``partitions``, or of all these topics."""
        marks = ",".join("?" * len(self._topics))
        with unavailable():
            rows = self._connection.execute(
                "SELECT topic, partition, offset FROM commits "  # noqa: S608 marks are "?" only
                f"WHERE consumer_group = ? AND topic IN ({marks})",
                (self._group, *self._topics),
            ).fetchall()
        found = {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
        return {p: offset for p, offset in found.items() if partitions is None or p in partitions}

    def start_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the oldest record that is kept, per partition."""
        with unavailable():
            return {part: partition_bounds(self._connection, part)[0] for part in self._positions}

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset that the next published record will get, per partition."""
        with unavailable():
            self._refresh_partitions()
            return {part: partition_bounds(self._connection, part)[1] for part in self._positions}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``."""
        for part, offset in positions.items():
            if part not in self._positions:
                raise ValueError(
                    f"seek must name partitions of {self._topics}, got {part}; "
                    "open a source of that topic"
                )
            self._positions[part] = offset
        self._lost = [
            each
            for each in self._lost
            if each.partition not in positions or each.start < positions[each.partition]
        ]

    def take_lost(self) -> list[Lost]:
        """Return what was deleted before it was read, since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _fetch(self) -> list[Record]:
        self._refresh_partitions()
        arrived: list[tuple[int, Record]] = []
        for part, position in self._positions.items():
            if part in self._held:
                continue
            start, end = partition_bounds(self._connection, part)
            if position < start:
                self._lost.append(Lost(part, position, start))
            offset = self._positions[part] = max(start, position)
            if offset >= end:
                continue
            rows = self._connection.execute(
                "SELECT id, topic, partition, offset, key, value, headers, t_broker_ns "
                "FROM records WHERE topic = ? AND partition = ? AND offset >= ? "
                "ORDER BY offset LIMIT ?",
                (*part, offset, MAX_POLL_RECORDS),
            )
            arrived += _bounded(rows)
        # Across partitions by arrival, so that no stream runs far ahead of the others.
        arrived.sort(key=lambda pair: pair[0])
        kept = [record for _, record in arrived[:MAX_POLL_RECORDS]]
        for record in kept:
            self._positions[record.topic_partition] = record.offset + 1
        return kept

    def _refresh_partitions(self) -> None:
        committed: dict[TopicPartition, int] | None = None
        for topic in self._topics:
            for number in range(num_partitions(self._connection, topic) or 0):
                part = TopicPartition(topic, number)
                if part not in self._positions:
                    committed = self.committed() if committed is None else committed
                    oldest = partition_bounds(self._connection, part)[0]
                    self._positions[part] = committed.get(part, oldest)


def _bounded(rows: sqlite3.Cursor) -> Iterator[tuple[int, Record]]:
    num_bytes = 0
    for row_id, topic, partition, offset, key, value, headers, t_broker_ns in rows:
        record = Record(topic, partition, offset, key, value, json.loads(headers), t_broker_ns)
        yield row_id, record
        num_bytes += len(record.value)
        if num_bytes >= MAX_POLL_BYTES:
            return
