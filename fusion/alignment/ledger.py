"""What became of every record, reconciled with the offsets.

Per partition the ledger keeps the records that are still needed, in offset order, and the sums of
everything before them. Its first still-needed offset is where a restart reads on; what is below it
is settled for good, so the sums belong to exactly that offset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush
from typing import Any, NamedTuple

from fusion.schema import TopicPartition


class Outcome(StrEnum):
    """The four ends of a record, and the state before."""

    PENDING = "pending"
    SCORED = "scored"
    LATE = "late"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "dead_lettered"


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by outcome. ``read`` is always the sum of these."""

    pending: int = 0
    scored: int = 0
    late: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    lost: int = 0
    """Beside them: at most so many were deleted by the broker before they were read."""

    @property
    def read(self) -> int:
        """Every record that was read."""
        return self.pending + self.scored + self.late + self.duplicate + self.dead_lettered

    def plus(self, outcome: Outcome) -> Counts:
        """Return these counts with one more ``outcome``.

        Example:
            >>> Counts().plus(Outcome.LATE).plus(Outcome.SCORED).read
            2
        """
        return self + Counts(**{outcome.value: 1})

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )


class Entry(NamedTuple):
    """One record that was read. For an accepted one, the ticks that it says something about."""

    offset: int
    stream: str | None
    epoch: str
    seq: int
    newest_ns: int
    """Newest event time of the stream after this record."""
    outcome: Outcome
    """PENDING for accepted records: they are SCORED once their last tick is closed."""
    last_tick: int = -1
    used_until_tick: int = -1
    """The last tick that may show this record's values, held ones included."""
    floor_tick: int | None = None
    """The closed frontier when this record came, where it lay above the stream's own watermark."""

    def settled(self, next_tick: int) -> Outcome:
        """Return the outcome when ``next_tick`` is the first tick that is not closed."""
        if self.outcome is Outcome.PENDING and self.last_tick < next_tick:
            return Outcome.SCORED
        return self.outcome


class Decisions(NamedTuple):
    """What depends on more than the order inside a partition, of its kept records."""

    floors: dict[int, int]
    """Offset to floor tick, of those that came after their stream was let go as idle."""
    refused: tuple[int, ...]
    """Offsets of those that have a dead letter."""


class PartitionLedger:
    """The records of one partition."""

    def __init__(self, start_offset: int, settled: Counts | None = None) -> None:
        self.position = start_offset
        """Everything below is settled and no open window needs it."""
        self.read_up_to = start_offset
        settled = settled or Counts()
        self._settled = {outcome: getattr(settled, outcome.value) for outcome in Outcome}
        self._read = dict(self._settled)
        """Every record by its outcome so far."""
        self._entries: deque[Entry] = deque()
        self._floors: deque[tuple[int, int]] = deque()
        self._refused: deque[int] = deque()
        # Pending records by their last tick, and these ticks as a heap: each is closed once.
        self._pending: dict[int, int] = {}
        self._pending_ticks: list[int] = []

    def add(self, entry: Entry) -> None:
        """Note a record. Offsets only grow; holes are the broker's own markers."""
        assert entry.offset >= self.read_up_to, "a partition is read in the order of its offsets"
        self._entries.append(entry)
        self.read_up_to = entry.offset + 1
        self._read[entry.outcome] += 1
        if entry.outcome is Outcome.PENDING:
            if entry.last_tick not in self._pending:
                self._pending[entry.last_tick] = 0
                heappush(self._pending_ticks, entry.last_tick)
            self._pending[entry.last_tick] += 1
        elif entry.outcome is Outcome.DEAD_LETTERED:
            self._refused.append(entry.offset)
        if entry.floor_tick is not None:
            self._floors.append((entry.offset, entry.floor_tick))

    def skip_to(self, offset: int) -> None:
        """Note that nothing below ``offset`` is for this plant beyond what was added.

        Without it a plant that is silent would hold back the commits of all that share its
        partition.
        """
        self.read_up_to = max(self.read_up_to, offset)
        if not self._entries:
            self.position = self.read_up_to

    def settle(
        self, *, next_tick: int, needed_from_tick: int, forget: Callable[[Entry], None]
    ) -> None:
        """Move the position past every record that no open window needs; ``forget`` gets each."""
        while self._entries:
            entry = self._entries[0]
            outcome = entry.settled(next_tick)
            if outcome is Outcome.PENDING or entry.used_until_tick >= needed_from_tick:
                break
            self._entries.popleft()
            self._settled[outcome] += 1
            forget(entry)
        self.position = self._entries[0].offset if self._entries else self.read_up_to
        while self._floors and self._floors[0][0] < self.position:
            self._floors.popleft()
        while self._refused and self._refused[0] < self.position:
            self._refused.popleft()

    def counts(self, *, next_tick: int) -> Counts:
        """Return what became of every record of this partition so far."""
        while self._pending_ticks and self._pending_ticks[0] < next_tick:
            num_scored = self._pending.pop(heappop(self._pending_ticks))
            self._read[Outcome.PENDING] -= num_scored
            self._read[Outcome.SCORED] += num_scored
        return Counts(**{outcome.value: count for outcome, count in self._read.items()})

    def decisions(self) -> Decisions:
        """Return what was decided of the kept records."""
        return Decisions(dict(self._floors), tuple(self._refused))

    def snapshot(self) -> dict[str, Any]:
        """Return the settled part, for JSON."""
        return {
            "position": self.position,
            "read_up_to": self.read_up_to,
            "floors": [list(floor) for floor in self._floors],
            "refused": list(self._refused),
            "settled": {outcome.value: count for outcome, count in self._settled.items()},
        }


def to_key(partition: TopicPartition) -> str:
    """Return the partition as a JSON key, ``topic:partition``."""
    return f"{partition.topic}:{partition.partition}"


def from_key(key: str) -> TopicPartition:
    """Return the partition that :func:`to_key` wrote."""
    topic, _, number = key.rpartition(":")
    return TopicPartition(topic, int(number))
