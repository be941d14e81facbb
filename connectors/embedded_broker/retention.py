"""What is deleted from the front of a partition, and how its space is used again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from fusion.schema import TopicPartition

EVERY_RECORDS = 256
EVERY_BYTES = 4 * 1024 * 1024
"""Retention looks again after so much was published."""
MIN_STEP_RECORDS = 1_000
MIN_STEP_BYTES = 16 * 1024 * 1024
"""One step deletes at most this of a partition, or twice what was published since the last one:
bounded work that still outruns any publisher."""
KEPT_FREE_PAGES = 2_048
"""Free pages below this, or below a quarter of the file, wait for the next records."""
MAX_RETURNED_PAGES = 1_024
NANOSECONDS_PER_MS = 1_000_000


class Retention:
    """Deletes what is older than its topic keeps, now and then, as its publisher goes on."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        # The first call looks: short-lived publishers would never come to it otherwise.
        self._num_records = EVERY_RECORDS
        self._num_bytes = 0

    @property
    def is_due(self) -> bool:
        """Whether enough was published since the last look."""
        return self._num_records >= EVERY_RECORDS or self._num_bytes >= EVERY_BYTES

    def count(self, num_records: int, num_bytes: int) -> None:
        """Take note of what was published."""
        self._num_records += num_records
        self._num_bytes += num_bytes

    def enforce(self, connection: sqlite3.Connection) -> None:
        """Delete a bounded part of what has outlived its topic's retention time."""
        rows = connection.execute(
            "SELECT topic, partition, end_offset, retention_ms FROM partitions JOIN topics "
            "USING (topic) WHERE retention_ms IS NOT NULL AND start_offset < end_offset"
        ).fetchall()
        for topic, partition, end_offset, retention_ms in rows:
            delete_before(
                connection,
                TopicPartition(topic, partition),
                end_offset,
                older_than_ns=self._now_ns() - retention_ms * NANOSECONDS_PER_MS,
                max_records=max(MIN_STEP_RECORDS, 2 * self._num_records),
                max_bytes=max(MIN_STEP_BYTES, 2 * self._num_bytes),
            )
        self._num_records = self._num_bytes = 0


def partition_bounds(connection: sqlite3.Connection, part: TopicPartition) -> tuple[int, int]:
    """Return the oldest offset that is kept and the next one that will be given."""
    row = connection.execute(
        "SELECT start_offset, end_offset FROM partitions WHERE topic = ? AND partition = ?", part
    ).fetchone()
    return (0, 0) if row is None else row


def delete_before(
    connection: sqlite3.Connection,
    part: TopicPartition,
    offset: int,
    *,
    older_than_ns: int | None = None,
    max_records: int = MIN_STEP_RECORDS,
    max_bytes: int = MIN_STEP_BYTES,
) -> int:
    """Delete one step of the oldest records of ``part``; return the oldest offset kept.

    Only records below ``offset`` go, and with ``older_than_ns`` only those that came before it.
    """
    start, _ = partition_bounds(connection, part)
    oldest = connection.execute(
        "SELECT offset, t_broker_ns, length(value) FROM records "
        "WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
        (*part, start, max_records + 1),
    )
    kept = offset
    num_bytes = 0
    for number, (found, t_broker_ns, num_value_bytes) in enumerate(oldest):
        is_kept = older_than_ns is not None and t_broker_ns >= older_than_ns
        if is_kept or number == max_records or num_bytes >= max_bytes or found >= offset:
            kept = min(found, offset)
            break
        num_bytes += num_value_bytes
    oldest.close()
    if kept > start:
        connection.execute(
            "DELETE FROM records WHERE topic = ? AND partition = ? AND offset < ?", (*part, kept)
        )
        connection.execute(
            "UPDATE partitions SET start_offset = ? WHERE topic = ? AND partition = ?",
            (kept, *part),
        )
    return kept


def give_back(connection: sqlite3.Connection) -> None:
    """Return free pages to the disk, beyond those that the next records will need.

    In a transaction of its own, a bounded number at once.
    """
    assert not connection.in_transaction
    (num_free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (num_pages,) = connection.execute("PRAGMA page_count").fetchone()
    surplus = num_free - max(KEPT_FREE_PAGES, num_pages // 4)
    if surplus > 0:
        # Not execute: Python stops after the first row without columns, which is the first page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(surplus, MAX_RETURNED_PAGES)})")
