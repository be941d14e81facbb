"""Event-time alignment: records in any order between streams become ticks of the whole plant.

A tick closes when every stream's watermark, its newest event time less the allowed lateness, has
passed the tick's end. Whether a record is late is judged by its own stream's watermark, so that it
depends on the order inside one partition, which the broker keeps, and never on how partitions
happened to interleave. Only a stream that was let go as idle can find its tick closed by others;
that is remembered, so that reading again judges alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fusion.alignment.admission import latest_event_ns
from fusion.alignment.buffers import Buffer, buffer_for
from fusion.alignment.ledger import Counts, Entry, Outcome, PartitionLedger, from_key, to_key
from fusion.alignment.observation import Observation
from fusion.alignment.sequence import SeenSequence
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream
from fusion.schema import Envelope, Payload, Record, TopicPartition


@dataclass(slots=True)
class _StreamState:
    """What is known of one stream: now, and as of the committed position of its partition."""

    stream: Stream
    buffer: Buffer
    hold_ticks: int
    newest_ns: int | None = None
    seen: SeenSequence = field(default_factory=SeenSequence)
    is_idle: bool = False
    settled_newest_ns: int | None = None
    settled_seen: SeenSequence = field(default_factory=SeenSequence)


class Aligner:
    """Turns admitted records into observations, and accounts for every record.

    ``context_ticks`` is how many closed ticks before the open ones must stay readable: a restart
    rebuilds the model's window from them.
    """

    def __init__(self, plant: Plant, *, context_ticks: int) -> None:
        self._plant = plant
        self._context_ticks = context_ticks
        self._lateness_ns = round(plant.allowed_lateness_s * NANOSECONDS)
        self._streams = {stream.name: _state(stream, plant) for stream in plant.streams}
        self._partitions: dict[TopicPartition, PartitionLedger] = {}
        self._replayed_floors: dict[tuple[TopicPartition, int], int] = {}
        self._replayed_up_to: dict[TopicPartition, int] = {}
        self._replayed_refused: set[tuple[TopicPartition, int]] = set()
        self._next_tick: int | None = None
        self._num_empty = 0

    # ------------------------------------------------------------------ records in

    def take(self, record: Record, envelope: Envelope, payload: Payload) -> Outcome:
        """Keep what ``record`` says about open ticks, and return its outcome so far."""
        state = self._streams[payload.stream]
        floor = self._floor(state, record)
        first_open = max(self._own_frontier(state), floor if floor is not None else _NO_TICK)
        state.is_idle = False
        ticks, outcome = None, Outcome.DUPLICATE
        if state.seen.add(envelope.epoch, envelope.seq):
            ticks = state.buffer.add(payload, seq=envelope.seq, first_open=first_open)
            outcome = Outcome.LATE if ticks is None else Outcome.PENDING
            latest_ns = latest_event_ns(payload, state.stream)
            newest_ns = state.newest_ns
            state.newest_ns = latest_ns if newest_ns is None else max(newest_ns, latest_ns)
        assert state.newest_ns is not None, "a duplicate has a record before it"
        self._partition(record).add(
            Entry(
                offset=record.offset,
                stream=payload.stream,
                epoch=envelope.epoch,
                seq=envelope.seq,
                newest_ns=state.newest_ns,
                outcome=outcome,
                last_tick=-1 if ticks is None else ticks.last,
                used_until_tick=-1 if ticks is None else ticks.last + state.hold_ticks,
                floor_tick=floor,
            )
        )
        return outcome

    def refuse(self, record: Record) -> None:
        """Account for a record that could not be used; its dead letter is the caller's work."""
        self._partition(record).add(Entry(record.offset, None, "", 0, 0, Outcome.DEAD_LETTERED))

    def is_settled(self, record: Record) -> bool:
        """Whether ``record`` was accounted for before a restart, and no open window needs it."""
        ledger = self._partitions.get(record.topic_partition)
        return ledger is not None and record.offset < ledger.position

    def was_refused(self, record: Record) -> bool:
        """Whether ``record`` is read again after a restart, its dead letter already published."""
        return (record.topic_partition, record.offset) in self._replayed_refused

    def skip_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything below ``positions`` was read, whoever it was for."""
        for part, offset in positions.items():
            if part in self._partitions:
                self._partitions[part].skip_to(offset)

    # ------------------------------------------------------------------ ticks out

    def closed(self) -> list[Observation]:
        """Return the ticks that every stream's watermark has passed since the last call."""
        frontiers: list[int] = []
        for state in self._streams.values():
            if not state.is_idle:
                if state.newest_ns is None:
                    return []
                frontiers.append(self._own_frontier(state))
        return self._close(min(frontiers)) if frontiers else []

    def tell_idle(self, streams: Iterable[str]) -> None:
        """Let ``streams`` no longer hold ticks open, until they speak again."""
        for name in streams:
            self._streams[name].is_idle = True

    def flush(self) -> list[Observation]:
        """Close every tick that something lies in: the end of a bounded run."""
        observations: list[Observation] = []
        while (first := self._first_tick()) is not None:
            observations += self._close(first + 1)
        return observations

    def newest_ns(self) -> dict[str, int]:
        """Return the newest event time of each stream that has spoken."""
        return {
            name: state.newest_ns
            for name, state in self._streams.items()
            if state.newest_ns is not None
        }

    def _close(self, limit: int) -> list[Observation]:
        observations: list[Observation] = []
        first = self._first_tick()
        if self._next_tick is None:
            # Not before something lies below every watermark: then nothing older can come.
            if first is None or first >= limit:
                return []
            self._next_tick = first
        while self._next_tick < limit:
            if self._num_empty >= self._context_ticks:
                # Silent for longer than a window: skip to what comes next.
                first = self._first_tick()
                self._next_tick = max(
                    self._next_tick, limit if first is None else min(first, limit)
                )
                if self._next_tick == limit:
                    break
            observation = self._observe(self._next_tick)
            self._num_empty = 0 if observation.senses else self._num_empty + 1
            self._next_tick += 1
            observations.append(observation)
        return observations

    def _observe(self, tick: int) -> Observation:
        senses = {name: state.buffer.take(tick) for name, state in self._streams.items()}
        return Observation(
            tick,
            {name: sense.values for name, sense in senses.items() if sense is not None},
            {name: sense.usable for name, sense in senses.items() if sense is not None},
        )

    def _first_tick(self) -> int | None:
        ticks = [state.buffer.first_tick() for state in self._streams.values()]
        return min((tick for tick in ticks if tick is not None), default=None)

    def _own_frontier(self, state: _StreamState) -> int:
        """Return the first tick that the stream's own watermark has not closed."""
        if state.newest_ns is None:
            return _NO_TICK
        return (state.newest_ns - self._lateness_ns) // self._plant.tick_ns

    def _floor(self, state: _StreamState, record: Record) -> int | None:
        """Return the closed frontier where it lies above the stream's own, else None."""
        if record.offset < self._replayed_up_to.get(record.topic_partition, 0):
            return self._replayed_floors.get((record.topic_partition, record.offset))
        if self._next_tick is None or self._next_tick <= self._own_frontier(state):
            return None
        return self._next_tick

    # ------------------------------------------------------------------ accounting

    def positions(self) -> dict[TopicPartition, int]:
        """Return, per partition, the offset of the oldest record that an open window needs."""
        self._settle()
        return {part: ledger.position for part, ledger in self._partitions.items()}

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record that was read, per partition."""
        next_tick = _NO_TICK if self._next_tick is None else self._next_tick
        return {
            part: ledger.counts(next_tick=next_tick) for part, ledger in self._partitions.items()
        }

    def total(self) -> Counts:
        """Return what became of every record that was read."""
        return sum(self.counts().values(), Counts())

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart at :meth:`positions` needs, for JSON."""
        self._settle()
        return {
            "partitions": {to_key(p): ledger.snapshot() for p, ledger in self._partitions.items()},
            "streams": {
                name: {"newest_ns": s.settled_newest_ns, "seen": s.settled_seen.snapshot()}
                for name, s in self._streams.items()
            },
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``, taken by an aligner of the same plant. Call before any record.

        The next records are those at the snapshot's positions. Ticks that were delivered before
        are given again, to rebuild the window.
        """
        assert not self._partitions, "restore comes before the first record"
        for key, part in snapshot["partitions"].items():
            partition = from_key(key)
            self._partitions[partition] = PartitionLedger(
                part["position"], Counts(**part["settled"])
            )
            self._replayed_up_to[partition] = part["read_up_to"]
            self._replayed_refused |= {(partition, offset) for offset in part["refused"]}
            for offset, floor in part["floors"]:
                self._replayed_floors[partition, offset] = floor
        for name, settled in snapshot["streams"].items():
            state = self._streams[name]
            state.newest_ns = state.settled_newest_ns = settled["newest_ns"]
            state.seen = SeenSequence(settled["seen"])
            state.settled_seen = SeenSequence(settled["seen"])

    def _partition(self, record: Record) -> PartitionLedger:
        partition = record.topic_partition
        if partition not in self._partitions:
            self._partitions[partition] = PartitionLedger(record.offset)
        return self._partitions[partition]

    def _settle(self) -> None:
        if self._next_tick is None:
            return
        for ledger in self._partitions.values():
            ledger.settle(
                next_tick=self._next_tick,
                needed_from_tick=self._next_tick - self._context_ticks,
                forget=self._forget,
            )

    def _forget(self, entry: Entry) -> None:
        if entry.stream is not None:
            state = self._streams[entry.stream]
            state.settled_newest_ns = entry.newest_ns
            state.settled_seen.add(entry.epoch, entry.seq)


_NO_TICK = -(2**62)


def _state(stream: Stream, plant: Plant) -> _StreamState:
    # Sound is never held; everything else may show for its maximum age.
    hold_ticks = 0 if isinstance(stream, AudioStream) else _ticks_up(stream.max_age_s, plant)
    return _StreamState(stream, buffer_for(stream, plant), hold_ticks)


def _ticks_up(duration_s: float, plant: Plant) -> int:
    return -(-round(duration_s * NANOSECONDS) // plant.tick_ns)
