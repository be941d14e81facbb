"""The ledgers of all partitions that a plant's records lie in, before a restart and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusion.alignment.ledger import (
    Counts,
    Decisions,
    Entry,
    Outcome,
    PartitionLedger,
    from_key,
    to_key,
)
from fusion.alignment.replayed import Replayed
from fusion.schema import Record, TopicPartition


class Accounts:
    """What became of every record, and how those were judged that a restart reads again."""

    def __init__(self) -> None:
        self.replayed = Replayed()
        self._ledgers: dict[TopicPartition, PartitionLedger] = {}

    def add(self, record: Record, entry: Entry) -> None:
        """Note what was decided of ``record``."""
        partition = record.topic_partition
        ledger = self._ledgers.get(partition)
        if ledger is None:
            ledger = self._ledgers[partition] = PartitionLedger(record.offset)
        ledger.add(entry)

    def refuse(self, record: Record) -> None:
        """Note that ``record`` could not be used."""
        self.add(record, Entry(record.offset, None, "", 0, 0, Outcome.DEAD_LETTERED))

    def is_settled(self, record: Record) -> bool:
        """Whether ``record`` was accounted for before a restart, and no open window needs it."""
        ledger = self._ledgers.get(record.topic_partition)
        return ledger is not None and record.offset < ledger.position

    def skip_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything below ``positions`` was read, whoever it was for."""
        for partition, offset in positions.items():
            if partition in self._ledgers:
                self._ledgers[partition].skip_to(offset)

    def settle(
        self, *, next_tick: int, needed_from_tick: int, forget: Callable[[Entry], None]
    ) -> None:
        """Move the positions past every record that no open window needs; ``forget`` gets each."""
        for ledger in self._ledgers.values():
            ledger.settle(next_tick=next_tick, needed_from_tick=needed_from_tick, forget=forget)

    def positions(self) -> dict[TopicPartition, int]:
        """Return, per partition, the offset of the oldest record that is not settled."""
        return {partition: ledger.position for partition, ledger in self._ledgers.items()}

    def counts(self, *, next_tick: int) -> dict[TopicPartition, Counts]:
        """Return what became of every record, when ``next_tick`` is the first that is open."""
        return {
            partition: ledger.counts(next_tick=next_tick)
            for partition, ledger in self._ledgers.items()
        }

    def decisions(self) -> dict[TopicPartition, Decisions]:
        """Return what a repeat of the records that are not settled must decide alike."""
        return {partition: ledger.decisions() for partition, ledger in self._ledgers.items()}

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart at :meth:`positions` needs, for JSON."""
        return {
            to_key(partition): self.replayed.completed(partition, ledger.snapshot())
            for partition, ledger in self._ledgers.items()
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from ``snapshot``. Call before any record."""
        assert not self._ledgers, "restore comes before the first record"
        for key, part in snapshot.items():
            partition = from_key(key)
            settled = Counts(**part["settled"])
            self._ledgers[partition] = PartitionLedger(part["position"], settled)
            self.replayed.restore(partition, part)
