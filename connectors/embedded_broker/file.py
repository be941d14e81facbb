"""The file itself: its tables, its connections, its topics."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from connectors.embedded_broker.retention import delete_before, give_back, partition_bounds
from fusion.errors import BrokerUnavailableError, InputError
from fusion.schema import TopicPartition

DEFAULT_PARTITIONS = 1
BUSY_TIMEOUT_S = 30.0
VERSION = 1
"""Of the tables; SQLite keeps it in the file as ``user_version``. 0 had neither retention nor
``partitions``, and is brought up to date when it is opened."""

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS topics (
    topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, is_compacted INTEGER NOT NULL
) STRICT""",
    "ALTER TABLE topics ADD COLUMN retention_ms INTEGER",
    """
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
) STRICT""",
    """
CREATE TABLE IF NOT EXISTS commits (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) STRICT""",
    # Offsets must never be given twice, also when every record of a partition is deleted.
    """
CREATE TABLE partitions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT""",
    "INSERT INTO partitions SELECT topic, partition, 0, max(offset) + 1 FROM records GROUP BY 1, 2",
)


class EmbeddedBroker:
    """One SQLite file with topics in it. Sources and publishers open connections of their own.

    With ``is_power_safe`` every publish waits until the disk has it (one ``fsync``). Without, a
    killed process loses nothing either; only a power cut can lose the newest transactions, and it
    loses them whole, with the offsets that they committed.

    Raises:
        BrokerUnavailableError: The file cannot be opened.
        InputError: A newer program has made the file.
    """

    def __init__(self, path: Path, *, is_power_safe: bool = False) -> None:
        self._path = path
        self._synchronous = "FULL" if is_power_safe else "NORMAL"
        with contextlib.closing(self.connect()) as connection, unavailable():
            self._prepare(connection)

    def connect(self) -> sqlite3.Connection:
        """Return a new connection.

        Raises:
            BrokerUnavailableError: The file cannot be opened.
        """
        try:
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
                # Only a file without pages can still be told to give free ones back. An older one
                # keeps its size and uses what was freed again.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
        except sqlite3.Error as failed:
            raise BrokerUnavailableError(
                f"the broker's file must be a readable, writable SQLite file, but {self._path}: "
                f"{failed}; check the folder and FUSION_DATA_DIR"
            ) from failed
        return connection

    def topics(self) -> set[str]:
        """Return the names of all topics."""
        with contextlib.closing(self.connect()) as connection, unavailable():
            return {name for (name,) in connection.execute("SELECT topic FROM topics")}

    def create_topic(
        self,
        topic: str,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        is_compacted: bool = False,
        retention_ms: int | None = None,
    ) -> None:
        """Create ``topic`` unless it is there. A compacted one keeps the newest record per key.

        Records older than ``retention_ms`` are deleted while others are published; None keeps all.
        For a topic that is there the time of the newest call counts.

        Raises:
            InputError: It is there with another number of partitions, or ``retention_ms`` is not
                positive or belongs to a compacted topic.
        """
        if retention_ms is not None and (retention_ms <= 0 or is_compacted):
            raise InputError(
                f"retention_ms of topic {topic!r} must be above 0 and its topic not compacted, got "
                f"{retention_ms} with is_compacted={is_compacted}; a compacted topic keeps the "
                "newest record of every key for good"
            )
        with (
            contextlib.closing(self.connect()) as connection,
            unavailable(),
            transaction(connection),
        ):
            connection.execute(
                "INSERT OR IGNORE INTO topics VALUES (?, ?, ?, ?)",
                (topic, partitions, is_compacted, retention_ms),
            )
            found = num_partitions(connection, topic)
            if found != partitions:
                raise InputError(
                    f"topic {topic!r} must have {partitions} partitions, it has {found}; keys "
                    "would change their partition, so use another topic prefix or the number it has"
                )
            connection.execute(
                "UPDATE topics SET retention_ms = ? WHERE topic = ?", (retention_ms, topic)
            )

    def delete_before(self, positions: Mapping[TopicPartition, int]) -> None:
        """Delete the records below ``positions``, for every group, in small transactions.

        Offsets go on where they were. A reader that stood lower goes on at its position here.

        Raises:
            ValueError: A position lies beyond the end of its partition.
            BrokerUnavailableError: What was deleted stays deleted; call it again for the rest.
                Deleting needs a little room too, so it does not mend a disk that is full.
        """
        with contextlib.closing(self.connect()) as connection, unavailable():
            for part, offset in positions.items():
                start, end = partition_bounds(connection, part)
                if offset > end:
                    raise ValueError(
                        f"delete_before must name offsets up to the end of {part}, which is {end}, "
                        f"got {offset}; delete what was read, not what is to come"
                    )
                while start < offset:
                    with transaction(connection):
                        start = delete_before(connection, part, offset)
                    give_back(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == VERSION:
            return
        with transaction(connection):
            # Another process may have done it since.
            if self._version(connection) == VERSION:
                return
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise InputError(
                f"the broker's file must have version {VERSION} or older, but {self._path} has "
                f"{version}; use the newer program that made it, or another FUSION_DATA_DIR"
            )
        return version


def num_partitions(connection: sqlite3.Connection, topic: str) -> int | None:
    """Return how many partitions ``topic`` has; None when there is no such topic."""
    row = connection.execute("SELECT partitions FROM topics WHERE topic = ?", (topic,)).fetchone()
    return None if row is None else row[0]


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Store everything that is done inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has undone it where the disk was full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Say what went wrong with the file in the product's own errors."""
    try:
        yield
    except sqlite3.Error as failed:
        raise BrokerUnavailableError(
            f"the embedded broker must be able to use its file, but: {failed}; nothing of this "
            "call was stored; check the disk, then call again"
        ) from failed
