"""The default broker for one machine: an append-only log in one SQLite file.

It keeps the promises that the product needs of a broker, and no more: order inside a partition,
keys that always meet the same partition, committed offsets per group, and messages that become
visible together with the offsets that they answer for. Any number of processes may use the file;
SQLite's write-ahead log lets readers go on while one writes.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from fusion.errors import BrokerUnavailableError, InputError
from fusion.schema import Message, Record, TopicPartition

DEFAULT_PARTITIONS = 1
BUSY_TIMEOUT_S = 30.0
MAX_POLL_RECORDS = 500
MAX_POLL_BYTES = 8 * 1024 * 1024
IDLE_WAIT_S = 0.02

_TABLES = """
CREATE TABLE IF NOT EXISTS topics (
    topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, is_compacted INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    key TEXT NOT NULL,
    headers TEXT NOT NULL,
    t_broker_ns INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (topic, partition, offset)
) STRICT;
CREATE TABLE IF NOT EXISTS commits (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) STRICT;
"""


class EmbeddedBroker:
    """One SQLite file with topics in it. Sources and publishers open connections of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.closing(self.connect()) as connection:
            connection.executescript(_TABLES)

    def connect(self) -> sqlite3.Connection:
        """Return a new connection.

        Raises:
            BrokerUnavailableError: The file cannot be opened.
        """
        try:
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            # In WAL mode NORMAL survives a killed process; only a power cut can lose the newest
            # transactions, and it loses them whole, with the offsets that they committed.
            connection.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as failed:
            raise BrokerUnavailableError(
                f"the broker's file must be a readable, writable SQLite file, but {self._path}: "
                f"{failed}; check the folder and FUSION_DATA_DIR"
            ) from failed
        return connection

    def create_topic(
        self, topic: str, *, partitions: int = DEFAULT_PARTITIONS, is_compacted: bool = False
    ) -> None:
        """Create ``topic`` unless it is there. A compacted one keeps the newest record per key.

        Raises:
            InputError: It is there with another number of partitions.
        """
        with contextlib.closing(self.connect()) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", (topic, partitions, is_compacted)
            )
            found = _num_partitions(connection, topic)
        if found != partitions:
            raise InputError(
                f"topic {topic!r} must have {partitions} partitions, it has {found}; keys would "
                "change their partition, so use another topic prefix or the number it has"
            )


class EmbeddedSource:
    """Implements :class:`fusion.ports.Source` on an embedded broker."""

    def __init__(self, broker: EmbeddedBroker, topics: Sequence[str], group: str) -> None:
        self._connection = broker.connect()
        self._topics = list(topics)
        self._group = group
        self._positions: dict[TopicPartition, int] = {}
        self._held: frozenset[TopicPartition] = frozenset()
        self._refresh_partitions()

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records in the order in which the broker got them, across partitions."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with _unavailable():
                records = self._fetch()
            if records or time.monotonic() >= deadline_s:
                return records
            time.sleep(min(IDLE_WAIT_S, max(0.0, deadline_s - time.monotonic())))

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

    def committed(self) -> dict[TopicPartition, int]:
        """Return what the group has committed of these topics."""
        marks = ",".join("?" * len(self._topics))
        with _unavailable():
            rows = self._connection.execute(
                "SELECT topic, partition, offset FROM commits "  # noqa: S608 marks are "?" only
                f"WHERE consumer_group = ? AND topic IN ({marks})",
                (self._group, *self._topics),
            ).fetchall()
        return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset that the next published record will get, per partition."""
        with _unavailable():
            self._refresh_partitions()
            return {part: _end_offset(self._connection, part) for part in self._positions}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``."""
        for part, offset in positions.items():
            if part not in self._positions:
                raise ValueError(
                    f"seek must name partitions of {self._topics}, got {part}; "
                    "open a source of that topic"
                )
            self._positions[part] = offset

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _fetch(self) -> list[Record]:
        self._refresh_partitions()
        arrived: list[tuple[int, Record]] = []
        for part, offset in self._positions.items():
            if part in self._held:
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
            for number in range(_num_partitions(self._connection, topic) or 0):
                part = TopicPartition(topic, number)
                if part not in self._positions:
                    committed = self.committed() if committed is None else committed
                    self._positions[part] = committed.get(part, 0)


class EmbeddedPublisher:
    """Implements :class:`fusion.ports.Publisher` on an embedded broker."""

    def __init__(self, broker: EmbeddedBroker, *, group: str | None = None) -> None:
        self._connection = broker.connect()
        self._group = group

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
        with _unavailable(), _transaction(self._connection):
            self._insert(messages)
            for part, offset in (commit or {}).items():
                self._connection.execute(
                    "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)",
                    (self._group, *part, offset),
                )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _insert(self, messages: Sequence[Message]) -> None:
        t_broker_ns = time.time_ns()
        partitions: dict[str, int] = {}
        ends: dict[TopicPartition, int] = {}
        newest: dict[tuple[TopicPartition, str], int] = {}
        rows: list[tuple[object, ...]] = []
        for message in messages:
            if message.topic not in partitions:
                partitions[message.topic] = self._topic(message.topic)
            number = zlib.crc32(message.key.encode()) % partitions[message.topic]
            part = TopicPartition(message.topic, number)
            if part not in ends:
                ends[part] = _end_offset(self._connection, part)
            headers = json.dumps(dict(message.headers))
            rows.append((*part, ends[part], message.key, headers, t_broker_ns, message.value))
            newest[part, message.key] = ends[part]
            ends[part] += 1
        self._connection.executemany(
            "INSERT INTO records (topic, partition, offset, key, headers, t_broker_ns, value) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._compact(newest)

    def _topic(self, topic: str) -> int:
        self._connection.execute(
            "INSERT OR IGNORE INTO topics VALUES (?, ?, 0)", (topic, DEFAULT_PARTITIONS)
        )
        return _num_partitions(self._connection, topic) or DEFAULT_PARTITIONS

    def _compact(self, newest: Mapping[tuple[TopicPartition, str], int]) -> None:
        """Delete what a newer record of the same key replaces, in compacted topics."""
        for (part, key), offset in newest.items():
            self._connection.execute(
                "DELETE FROM records WHERE topic = ? AND partition = ? AND key = ? AND offset < ? "
                "AND (SELECT is_compacted FROM topics WHERE topics.topic = records.topic)",
                (*part, key, offset),
            )


def _num_partitions(connection: sqlite3.Connection, topic: str) -> int | None:
    row = connection.execute("SELECT partitions FROM topics WHERE topic = ?", (topic,)).fetchone()
    return None if row is None else row[0]


def _end_offset(connection: sqlite3.Connection, part: TopicPartition) -> int:
    row = connection.execute(
        "SELECT max(offset) FROM records WHERE topic = ? AND partition = ?", part
    ).fetchone()
    return 0 if row[0] is None else row[0] + 1


def _bounded(rows: sqlite3.Cursor) -> Iterator[tuple[int, Record]]:
    num_bytes = 0
    for row_id, topic, partition, offset, key, value, headers, t_broker_ns in rows:
        record = Record(topic, partition, offset, key, value, json.loads(headers), t_broker_ns)
        yield row_id, record
        num_bytes += len(record.value)
        if num_bytes >= MAX_POLL_BYTES:
            return


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as failed:
        raise BrokerUnavailableError(
            f"the embedded broker must be able to use its file, but: {failed}; nothing of this "
            "call was stored; check the disk, then call again"
        ) from failed
