"""Stored records cut into shards of event time that can be worked on apart, and alike bit for bit.

What a record says goes into a tick or not by what came before it: watermarks, numbers already seen,
streams let go as idle. So one pass reads all records in the order in which the broker got them,
through the live intake, and notes where shards begin, what a restart there needs (the same that the
live checkpoint holds), and what was decided that a shard alone could not know.

The broker's stamps stand for the wall clock: a stream is silent when the others' records go on and
its own do not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from fusion.alignment import Observation
from fusion.alignment.ledger import from_key, to_key
from fusion.plant import Plant
from fusion.schema import Record, StreamHealth, TopicPartition
from fusion.stream.intake import RELEASED, Gate, Intake
from fusion.stream.verdict import is_health_due

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


class BrokerClock:
    """Implements :class:`fusion.ports.Clock` by the stamps of the records that are read."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def see(self, record: Record) -> None:
        """Move on to ``record``."""
        self._now_ns = max(self._now_ns, record.t_broker_ns)

    def now_ns(self) -> int:
        """Return the newest stamp."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Return the newest stamp: it never goes back."""
        return self._now_ns

    def sleep(self, duration_s: float) -> None:
        """Nothing waits for stored records."""
        raise AssertionError(f"stored records are not waited for, asked to sleep {duration_s} s")


def plan_shards(
    records: Iterable[Record],
    plant: Plant,
    *,
    window_ticks: int,
    borders: Borders,
    span: Span = EVERYTHING,
    with_open_ticks: bool = False,
    gate: Gate = RELEASED,
    on_read: Callable[[int], None] = lambda _: None,
) -> Iterator[ShardPlan]:
    """Yield the shards of ``records``, each as soon as it is known; together they are ``span``.

    ``with_open_ticks`` takes the ticks too that a live process would still hold open at the end.
    ``on_read`` hears how many records were read, now and then.
    """
    planner: _Planner | None = None
    for number, record in enumerate(records, start=1):
        if planner is None:
            clock = BrokerClock(record.t_broker_ns)
            intake = Intake(
                plant,
                clock,
                context_ticks=window_ticks,
                # All that came before this record is read.
                has_unread=lambda _topic: False,
                gate=gate,
            )
            planner = _Planner(
                intake, clock, plant, window_ticks=window_ticks, span=span, borders=borders
            )
        yield from planner.take(record)
        if number % 1000 == 0:
            on_read(number)
        if planner.is_done:
            break
    if planner is not None:
        yield from planner.finish(with_open_ticks=with_open_ticks)


@dataclass(slots=True)
class _Saved:
    """A moment from which reading can go on."""

    next_tick: int | None
    begin: Offsets
    snapshot: dict[str, Any]


@dataclass(slots=True)
class _Open:
    """The shard whose end is not known yet."""

    number: int
    first_tick: int
    saved: _Saved
    num_ticks: int = 0
    num_records: int = 0
    marks: list[Mark] = field(default_factory=list[Mark])
    health: dict[int, list[StreamHealth]] = field(default_factory=dict[int, list[StreamHealth]])


class _Planner:
    """Reads on, and notes."""

    def __init__(
        self,
        intake: Intake,
        clock: BrokerClock,
        plant: Plant,
        *,
        window_ticks: int,
        span: Span,
        borders: Borders,
    ) -> None:
        self.is_done = False
        self._intake, self._clock = intake, clock
        self._plant, self._window_ticks = plant, window_ticks
        self._span, self._borders = span, borders
        self._address = str(plant.address)
        self._read: Offsets = {}
        self._first: Offsets = {}
        self._saved = _Saved(None, {}, intake.snapshot())
        self._open: _Open | None = None
        self._num_shards = 0
        self._newest_tick: int | None = None
        self._floors: dict[TopicPartition, dict[int, int]] = {}
        self._refused: dict[TopicPartition, set[int]] = {}

    def take(self, record: Record) -> Iterator[ShardPlan]:
        part = record.topic_partition
        self._first.setdefault(part, record.offset)
        self._read[part] = record.offset + 1
        if self._open is not None:
            self._open.num_records += 1
        if record.key != self._address:
            return  # (another plant's, or a stranger's: the live shard refuses it)
        self._clock.see(record)
        observations = self._intake.take([record]).observations
        if observations:
            yield from self._give(observations)
            self._perhaps_save()

    def finish(self, *, with_open_ticks: bool) -> Iterator[ShardPlan]:
        if with_open_ticks and not self.is_done:
            yield from self._give(self._intake.flush().observations)
        if self._open is not None:
            assert self._newest_tick is not None
            end_tick = self._span.end_tick if self.is_done else None
            yield self._close(self._open, self._newest_tick + 1 if end_tick is None else end_tick)
            self._open = None

    def _give(self, observations: list[Observation]) -> Iterator[ShardPlan]:
        health: list[StreamHealth] | None = None
        for tick in (each.tick for each in observations):
            if self.is_done or self._span.is_before(tick):
                continue
            if self._span.is_after(tick):
                self.is_done = True
                continue
            if self._open is None:
                first_tick = tick if self._span.first_tick is None else self._span.first_tick
                self._open = self._begin(first_tick)
            elif self._borders.is_border(self._open.first_tick, tick, self._open.num_records):
                yield self._close(self._open, tick)
                self._open = self._begin(tick)
            self._open.num_ticks += 1
            self._newest_tick = tick
            if is_health_due(tick, self._plant):
                health = self._intake.health() if health is None else health
                self._open.health[tick] = health

    def _begin(self, first_tick: int) -> _Open:
        begin = self._saved.begin
        for part, floors in self._floors.items():
            first = begin.get(part, 0)
            self._floors[part] = {at: tick for at, tick in floors.items() if at >= first}
            self._refused[part] = {at for at in self._refused[part] if at >= first}
        self._num_shards += 1
        return _Open(self._num_shards - 1, first_tick, self._saved)

    def _close(self, shard: _Open, end_tick: int) -> ShardPlan:
        self._note_decisions()
        begin = {part: shard.saved.begin.get(part, first) for part, first in self._first.items()}
        partitions = {
            to_key(part): {
                "position": offset,
                "read_up_to": self._read[part],
                "floors": sorted(
                    [at, tick] for at, tick in self._floors.get(part, {}).items() if at >= offset
                ),
                "refused": sorted(at for at in self._refused.get(part, ()) if at >= offset),
                "settled": {},
            }
            for part, offset in begin.items()
        }
        restart = shard.saved.snapshot | {"partitions": partitions, "monitors": {}}
        return ShardPlan(
            number=shard.number,
            first_tick=shard.first_tick,
            end_tick=end_tick,
            num_ticks=shard.num_ticks,
            begin=_keyed(begin),
            end=_keyed(self._read),
            restart=restart,
            marks=shard.marks,
            health=shard.health,
        )

    def _perhaps_save(self) -> None:
        """Once a window, remember where reading could begin."""
        next_tick = self._intake.next_tick()
        assert next_tick is not None, "ticks were closed"
        saved_tick = self._saved.next_tick
        if saved_tick is not None and next_tick - saved_tick < self._window_ticks:
            return
        self._note_decisions()
        self._intake.skip_to(self._read)
        positions = self._intake.positions()
        begin = {part: positions.get(part, offset) for part, offset in self._read.items()}
        self._saved = _Saved(next_tick, begin, self._intake.snapshot())
        if self._open is not None:
            self._open.marks.append(Mark(next_tick, _keyed(self._read)))

    def _note_decisions(self) -> None:
        """Before the intake forgets what it has decided."""
        for part, decided in self._intake.decisions().items():
            self._floors.setdefault(part, {}).update(decided.floors)
            self._refused.setdefault(part, set()).update(decided.refused)


def _keyed(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    return {to_key(part): offset for part, offset in offsets.items()}
