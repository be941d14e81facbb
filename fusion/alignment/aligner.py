"""Event-time alignment: records in any order between streams become ticks of the whole plant.

A tick closes when every stream's watermark, its newest event time less the allowed lateness, has
passed the tick's end. Whether a record is late is judged by its own stream's watermark, so that it
depends on the order inside one partition, which the broker keeps, and never on how partitions
happened to interleave. Only a stream that was let go as idle can find its tick closed by others;
that is remembered, so that reading again judges alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusion.alignment.accounts import Accounts
from fusion.alignment.admission import Admitted
from fusion.alignment.buffers import Buffer, buffer_for
from fusion.alignment.event_time import Stamps
from fusion.alignment.health import StreamMonitor, health_of
from fusion.alignment.ledger import Counts, Decisions, Entry, Outcome
from fusion.alignment.observation import Observation
from fusion.alignment.sequence import SeenSequence
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream
from fusion.schema import Record, StreamHealth, TopicPartition

_NO_TICK = -(2**62)


@dataclass(slots=True)
class _StreamState:
    """What is known of one stream: now, and as of the committed position of its partition."""

    stream: Stream
    buffer: Buffer
    hold_ticks: int
    lateness_ns: int
    newest_ns: int | None = None
    frontier: int = _NO_TICK
    """The first tick that the stream's own watermark has not closed."""
    seen: SeenSequence = field(default_factory=SeenSequence)
    is_idle: bool = False
    settled_newest_ns: int | None = None
    settled_seen: SeenSequence = field(default_factory=SeenSequence)


class _Window(NamedTuple):
    """The ticks that are closed, and the last ones of them, which a restart gives again."""

    from_tick: int
    num_empty: int
    """Ticks of silence right before ``from_tick``."""
    closed_before: int


class Aligner:
    """Turns admitted records into observations, and accounts for every record.

    ``context_ticks`` is how many closed ticks before the open ones must stay readable: a restart
    rebuilds the model's window from them.
    """

    def __init__(self, plant: Plant, *, context_ticks: int) -> None:
        self._plant = plant
        self._context_ticks = context_ticks
        self._tick_ns = plant.tick_ns
        self._streams = {stream.name: _state(stream, plant) for stream in plant.streams}
        self._monitors = {stream.name: StreamMonitor() for stream in plant.streams}
        self._accounts = Accounts()
        self._next_tick: int | None = None
        self._num_empty = 0
        self._given = deque[tuple[int, int]](maxlen=context_ticks)
        """The newest closed ticks, each with the number of empty ones right before it."""
        self._rebuilt: _Window | None = None
        """After a restart: the window that is read again."""
        self._may_close = True
        """Whether a watermark has moved since the ticks below all of them were closed."""

    # ------------------------------------------------------------------ records in

    def take(self, record: Record, admitted: Admitted) -> Outcome:
        """Keep what ``record`` says about open ticks, and return its outcome so far."""
        envelope, payload, stamps = admitted
        state = self._streams[payload.stream]
        replayed = self._accounts.replayed
        is_replayed = replayed.holds(record)
        floor = replayed.floor(record) if is_replayed else self._floor(state)
        first_open = state.frontier if floor is None else max(state.frontier, floor)
        state.is_idle = False
        ticks, outcome = None, Outcome.DUPLICATE
        if state.seen.add(envelope.epoch, envelope.seq):
            ticks = state.buffer.add(payload, seq=envelope.seq, first_open=first_open)
            outcome = Outcome.LATE if ticks is None else Outcome.PENDING
            self._advance(state, stamps)
        assert state.newest_ns is not None, "a duplicate has a record before it"
        if not is_replayed:
            self._monitors[payload.stream].note(record, admitted, outcome=outcome)
        self._accounts.add(
            record,
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
            ),
        )
        return outcome

    def refuse(self, record: Record) -> None:
        """Account for a record that could not be used; its dead letter is the caller's work."""
        self._accounts.refuse(record)

    def is_settled(self, record: Record) -> bool:
        """Whether ``record`` was accounted for before a restart, and no open window needs it."""
        return self._accounts.is_settled(record)

    def was_refused(self, record: Record) -> bool:
        """Whether ``record`` is read again after a restart, its dead letter already published."""
        return self._accounts.replayed.was_refused(record)

    def skip_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything below ``positions`` was read, whoever it was for."""
        self._accounts.skip_to(positions)

    # ------------------------------------------------------------------ ticks out

    def closed(self) -> list[Observation]:
        """Return the ticks that every stream's watermark has passed since the last call."""
        if not self._may_close:
            return []
        self._may_close = False
        # A stream that has not spoken has no frontier: it holds every tick, unless it is idle.
        frontiers = [state.frontier for state in self._streams.values() if not state.is_idle]
        limit = min(frontiers, default=_NO_TICK)
        return self._close(limit) if limit > _NO_TICK else []

    def tell_idle(self, streams: Iterable[str]) -> None:
        """Let ``streams`` no longer hold ticks open, until they speak again."""
        for name in streams:
            self._may_close |= not self._streams[name].is_idle
            self._streams[name].is_idle = True

    def flush(self) -> list[Observation]:
        """Close every tick that something lies in: the end of a bounded run."""
        last_ticks = [state.buffer.last_tick() for state in self._streams.values()]
        last = max((tick for tick in last_ticks if tick is not None), default=None)
        return [] if last is None else self._close(last + 1)

    def close_before(self, tick: int) -> list[Observation]:
        """Close every tick below ``tick``: the caller knows that nothing of them is to come."""
        return self._close(tick)

    def next_tick(self) -> int | None:
        """Return the first tick that is not closed; None before any is."""
        return self._next_tick

    def newest_ns(self) -> dict[str, int]:
        """Return the newest event time of each stream that has spoken."""
        return {
            name: state.newest_ns
            for name, state in self._streams.items()
            if state.newest_ns is not None
        }

    def health(self) -> list[StreamHealth]:
        """Return how each stream does, in plant order; nothing before the first record."""
        spoken = [state.frontier for state in self._streams.values() if state.newest_ns is not None]
        if not spoken:
            return []
        tick = min(spoken) if self._next_tick is None else self._next_tick
        idle = {name for name, state in self._streams.items() if state.is_idle}
        t_ns = tick * self._tick_ns
        return health_of(self._monitors, self._plant, idle=idle, t_ns=t_ns)

    def _close(self, limit: int) -> list[Observation]:
        observations: list[Observation] = []
        if self._next_tick is None:
            self._next_tick = self._begin(limit)
            if self._next_tick is None:
                return []
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
            self._given.append((self._next_tick, self._num_empty))
            self._num_empty = 0 if observation.senses else self._num_empty + 1
            self._next_tick += 1
            observations.append(observation)
        return observations

    def _begin(self, limit: int) -> int | None:
        """Return the first tick to give; None while older ones can come."""
        first = self._first_tick()
        if self._rebuilt is None:
            # Not before something lies below every watermark: then nothing older can come.
            return None if first is None or first >= limit else first
        from_tick = self._rebuilt.from_tick
        if from_tick >= limit:
            return None
        for tick in range(from_tick if first is None else first, from_tick):
            self._observe(tick)  # (what is held from it shows later)
        self._num_empty = self._rebuilt.num_empty
        return from_tick

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

    def _advance(self, state: _StreamState, stamps: Stamps) -> None:
        """Move the stream's watermark on."""
        if state.newest_ns is None or stamps.newest_ns > state.newest_ns:
            state.newest_ns = stamps.newest_ns
            frontier = self._own_frontier(state)
            self._may_close |= frontier > state.frontier
            state.frontier = frontier

    def _own_frontier(self, state: _StreamState) -> int:
        if state.newest_ns is None:
            return _NO_TICK
        return (state.newest_ns - state.lateness_ns) // self._tick_ns

    def _floor(self, state: _StreamState) -> int | None:
        """Return the closed frontier where it lies above the stream's own, else None."""
        closed_before = self._closed_before()
        if closed_before is None or closed_before <= state.frontier:
            return None
        return closed_before

    def _closed_before(self) -> int | None:
        """Return the first tick that is not closed, before a restart or after it."""
        if self._rebuilt is None:
            return self._next_tick
        if self._next_tick is None:
            return self._rebuilt.closed_before
        return max(self._rebuilt.closed_before, self._next_tick)

    # ------------------------------------------------------------------ accounting

    def positions(self) -> dict[TopicPartition, int]:
        """Return, per partition, the offset of the oldest record that an open window needs."""
        self._settle()
        return self._accounts.positions()

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record that was read, per partition."""
        next_tick = _NO_TICK if self._next_tick is None else self._next_tick
        return self._accounts.counts(next_tick=next_tick)

    def total(self) -> Counts:
        """Return what became of every record that was read."""
        return sum(self.counts().values(), Counts())

    def decisions(self) -> dict[TopicPartition, Decisions]:
        """Return what a repeat of the records kept since :meth:`positions` must decide alike."""
        return self._accounts.decisions()

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart at :meth:`positions` needs, for JSON."""
        self._settle()
        return {
            "partitions": self._accounts.snapshot(),
            "streams": {
                name: {"newest_ns": s.settled_newest_ns, "seen": s.settled_seen.snapshot()}
                for name, s in self._streams.items()
            },
            "monitors": {name: monitor.snapshot() for name, monitor in self._monitors.items()},
            "window": None if (window := self._window()) is None else window._asdict(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``, taken by an aligner of the same plant. Call before any record.

        The next records are those at the snapshot's positions. Ticks that were delivered before
        are given again, to rebuild the window.
        """
        self._accounts.restore(snapshot["partitions"])
        for name, settled in snapshot["streams"].items():
            state = self._streams[name]
            state.newest_ns = state.settled_newest_ns = settled["newest_ns"]
            state.seen = SeenSequence(settled["seen"])
            state.settled_seen = SeenSequence(settled["seen"])
            state.frontier = self._own_frontier(state)
        for name, monitor in snapshot["monitors"].items():
            self._monitors[name] = StreamMonitor(monitor)
        window = snapshot.get("window")  # (absent in what older versions wrote)
        if window is not None:
            self._rebuilt = _Window(**window)

    def _window(self) -> _Window | None:
        """Return where a restart begins to rebuild the window, so that it is the same window.

        The ticks in which the whole plant was silent belong to it, and no record tells of them.
        """
        closed_before = self._closed_before()
        if self._next_tick is None or closed_before is None:
            return self._rebuilt
        needed_from = self._next_tick - self._context_ticks
        kept = (given for given in self._given if given[0] >= needed_from)
        from_tick, num_empty = next(kept, (self._next_tick, self._num_empty))
        return _Window(from_tick, num_empty, closed_before)

    def _settle(self) -> None:
        # Before the first tick nothing is needed but what waits for it: a plant whose records are
        # all refused must be able to commit, too.
        next_tick = self._next_tick or 0
        needed_from_tick = max(0, next_tick - self._context_ticks)
        self._accounts.settle(
            next_tick=next_tick, needed_from_tick=needed_from_tick, forget=self._forget
        )

    def _forget(self, entry: Entry) -> None:
        if entry.stream is not None:
            state = self._streams[entry.stream]
            state.settled_newest_ns = entry.newest_ns
            state.settled_seen.add(entry.epoch, entry.seq)


def _state(stream: Stream, plant: Plant) -> _StreamState:
    # Sound is never held; everything else may show for its maximum age.
    hold_ticks = 0 if isinstance(stream, AudioStream) else _ticks_up(stream.max_age_s, plant)
    return _StreamState(
        stream, buffer_for(stream, plant), hold_ticks, lateness_ns=plant.lateness_ns(stream)
    )


def _ticks_up(duration_s: float, plant: Plant) -> int:
    return -(-round(duration_s * NANOSECONDS) // plant.tick_ns)
