"""Writes messages and committed offsets, and deletes what has outlived its topic's retention."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence

from connectors.embedded_broker.file import (
    DEFAULT_PARTITIONS,
    EmbeddedBroker,
    num_partitions,
    transaction,
    unavailable,
)
from connectors.embedded_broker.retention import Retention, give_back, partition_bounds
from fusion.schema import Message, TopicPartition


class EmbeddedPublisher:
    """Implements :class:`fusion.ports.Publisher` on an embedded broker."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        *,
        group: str | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._connection = broker.connect()
        self._group = group
        self._now_ns = now_ns
        self._retention = Retention(now_ns)

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store ``messages`` and the group's ``commit`` positions in one transaction."""
        if commit is not None and self._group is None:
            raise ValueError(
                "positions can be committed only for a group; open the publisher with group=..."
            )
        if messages and self._retention.is_due:
            with unavailable():
                with transaction(self._connection):
                    self._retention.enforce(self._connection)
                give_back(self._connection)
        with unavailable(), transaction(self._connection):
            self._insert(messages)
            for part, offset in (commit or {}).items():
                self._connection.execute(
                    "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)",
                    (self._group, *part, offset),
                )
        self._retention.count(len(messages), sum(len(message.value) for message in messages))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _insert(self, messages: Sequence[Message]) -> None:
        t_broker_ns = self._now_ns()
        partitions: dict[str, int] = {}
        ends: dict[TopicPartition, int] = {}
        newest: dict[tuple[TopicPartition, str], int] = {}
        rows: list[tuple[object, ...]] = []
        for message in messages:
            if message.topic not in partitions:
                partitions[message.topic] = self._topic(message.topic)
            part = TopicPartition(message.topic, _number(message, partitions[message.topic]))
            if part not in ends:
                _, ends[part] = partition_bounds(self._connection, part)
            headers = json.dumps(dict(message.headers))
            rows.append((*part, ends[part], message.key, headers, t_broker_ns, message.value))
            newest[part, message.key] = ends[part]
            ends[part] += 1
        self._connection.executemany(
            "INSERT INTO records (topic, partition, offset, key, headers, t_broker_ns, value) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._connection.executemany(
            "INSERT INTO partitions VALUES (?, ?, 0, ?) "
            "ON CONFLICT DO UPDATE SET end_offset = excluded.end_offset",
            [(*part, end) for part, end in ends.items()],
        )
        self._compact(newest)

    def _topic(self, topic: str) -> int:
        self._connection.execute(
            "INSERT OR IGNORE INTO topics VALUES (?, ?, 0, NULL)", (topic, DEFAULT_PARTITIONS)
        )
        return num_partitions(self._connection, topic) or DEFAULT_PARTITIONS

    def _compact(self, newest: Mapping[tuple[TopicPartition, str], int]) -> None:
        """Delete what a newer record of the same key replaces, in compacted topics."""
        for (part, key), offset in newest.items():
            self._connection.execute(
                "DELETE FROM records WHERE topic = ? AND partition = ? AND key = ? AND offset < ? "
                "AND (SELECT is_compacted FROM topics WHERE topics.topic = records.topic)",
                (*part, key, offset),
            )


def _number(message: Message, num_partitions: int) -> int:
    """Return the partition that ``message`` goes to."""
    if message.partition is None:
        return partition_of(message.key, num_partitions)
    if not 0 <= message.partition < num_partitions:
        raise ValueError(
            f"topic {message.topic!r} has partitions 0 to {num_partitions - 1}, a message is for "
            f"{message.partition}; let its key decide, or create the topic with more"
        )
    return message.partition


def partition_of(key: str, num_partitions: int) -> int:
    """Return the partition of a topic that messages of ``key`` go to."""
    return zlib.crc32(key.encode()) % num_partitions
