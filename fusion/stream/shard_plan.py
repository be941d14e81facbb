"""What a shard of stored records is: which ticks, which records, and what to know before them.

:mod:`fusion.stream.shard_planner` makes such plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from fusion.alignment.ledger import from_key
from fusion.schema import StreamHealth, TopicPartition

Offsets = dict[TopicPartition, int]


class Mark(NamedTuple):
    """Once a partition is read up to each of ``offsets``, nothing of older ticks is to come."""

    closed_before: int
    offsets: dict[str, int]


class ShardPlan(BaseModel):
    """Ticks ``first_tick`` up to, not including, ``end_tick``, and how to come to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    first_tick: int
    end_tick: int
    num_ticks: int
    """Ticks that are given; where the plant was silent for long there are none."""
    begin: dict[str, int]
    end: dict[str, int]
    """Offsets to read per partition: from, and below."""
    restart: dict[str, Any]
    """The aligner's snapshot at ``begin``, with everything that was decided up to ``end``."""
    marks: list[Mark]
    health: dict[int, list[StreamHealth]]
    """How the streams did at the ticks at which the live chain would have said it."""

    def start(self) -> Offsets:
        """Return the offsets to read from."""
        return {from_key(key): offset for key, offset in self.begin.items()}

    def stop(self) -> Offsets:
        """Return the offsets to read below."""
        return {from_key(key): offset for key, offset in self.end.items()}


class Borders(Protocol):
    """Where a shard ends and the next one begins."""

    def is_border(self, first_tick: int, tick: int, num_records: int) -> bool:
        """Whether ``tick`` begins a shard; this one began at ``first_tick``, records ago."""
        ...


@dataclass(frozen=True, slots=True)
class EveryTicks:
    """Shards of so many ticks of event time, counted from 1970.

    Example:
        >>> [EveryTicks(10).is_border(17, tick, 0) for tick in (19, 20)]
        [False, True]
    """

    num_ticks: int

    def is_border(self, first_tick: int, tick: int, num_records: int) -> bool:
        """Whether ``tick`` lies in another multiple."""
        del num_records
        return tick // self.num_ticks != first_tick // self.num_ticks


@dataclass(frozen=True, slots=True)
class EveryRecords:
    """Shards that read so many records: equal work, however densely the plant speaks."""

    num_records: int

    def is_border(self, first_tick: int, tick: int, num_records: int) -> bool:
        """Whether that many were read."""
        del first_tick, tick
        return num_records >= self.num_records


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks that are wanted; None has no end there."""

    first_tick: int | None = None
    end_tick: int | None = None

    def is_before(self, tick: int) -> bool:
        """Whether ``tick`` comes before the span."""
        return self.first_tick is not None and tick < self.first_tick

    def is_after(self, tick: int) -> bool:
        """Whether ``tick`` comes after the span."""
        return self.end_tick is not None and tick >= self.end_tick


EVERYTHING = Span()
