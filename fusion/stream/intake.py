"""The mouth of the chain: records of one plant become aligned ticks and dead letters.

Training uses :func:`align_recorded`, the same gate and the same aligner over stored records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fusion.alignment import (
    Admission,
    Aligner,
    Counts,
    Decisions,
    Observation,
    Outcome,
    dead_letter,
)
from fusion.errors import RecordError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock
from fusion.schema import (
    Message,
    Record,
    StreamHealth,
    TopicPartition,
    WriterSchemas,
)
from fusion.stream.idleness import IdleWatch

MAX_AHEAD_TICKS = 40
"""A stream that is this far ahead of the slowest one waits for it, so that memory is bounded."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What opens records: claimed values from the object store, schemas that senders write with."""

    resolve: Callable[[Record], Record] | None = None
    schemas: WriterSchemas | None = None

    def of(self, plant: Plant) -> Admission:
        """Return what opens the records of ``plant``."""
        return Admission(plant, self.schemas, self.resolve)


RELEASED = Gate()
"""For records that carry their values and are written with the released schemas."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Which topics of a plant have run ahead, and which of their others that waits for."""

    ahead: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    """With unread records."""

    @staticmethod
    def to_hold(paces: Iterable[Pace]) -> set[str]:
        """Return the topics that should wait until slower ones have caught up.

        Plants share topics: where one has run ahead another may be behind. A topic that anybody
        waits for goes on, or each of two plants would hold what the other waits for.

        Example:
            >>> one = Pace(ahead=frozenset({"p.telemetry"}), behind=frozenset({"p.audio"}))
            >>> other = Pace(ahead=frozenset({"p.audio"}), behind=frozenset({"p.telemetry"}))
            >>> Pace.to_hold([one]), Pace.to_hold([one, other])
            ({'p.telemetry'}, set())
        """
        each = list(paces)
        ahead = {topic for pace in each for topic in pace.ahead}
        return ahead - {topic for pace in each for topic in pace.behind}


@dataclass(slots=True)
class Taken:
    """What one poll brought."""

    observations: list[Observation] = field(default_factory=list[Observation])
    dead_letters: list[Message] = field(default_factory=list[Message])


class Intake:
    """Decodes, aligns and accounts for what a plant's streams say.

    ``has_unread`` tells whether the broker holds unread records of a topic, in this plant's
    partition; it may cost a round trip and is asked only when a stream may be idle.
    """

    def __init__(
        self,
        plant: Plant,
        clock: Clock,
        *,
        context_ticks: int,
        has_unread: Callable[[str], bool],
        gate: Gate = RELEASED,
    ) -> None:
        self._plant = plant
        self._clock = clock
        self._has_unread = has_unread
        self._admission = gate.of(plant)
        self._aligner = Aligner(plant, context_ticks=context_ticks)
        self._idle_watch = IdleWatch(plant, now_ns=clock.monotonic_ns())
        self._topic_of = {s.name: plant.topic(s.modality) for s in plant.streams}
        self._max_ahead_ns = max(MAX_AHEAD_TICKS * plant.tick_ns, 10 * NANOSECONDS)

    def take(self, records: Iterable[Record]) -> Taken:
        """Return the ticks that closed and the records that were refused, among ``records``."""
        taken = Taken()
        heard: set[str] = set()
        for record in records:
            if self._aligner.is_settled(record):
                continue  # (another plant of this partition is why it is read again)
            if self._aligner.was_refused(record):
                self._aligner.refuse(record)
                continue
            try:
                admitted = self._admission.admit(record)
            except RecordError as error:
                taken.dead_letters.append(dead_letter(record, error, self._plant))
                self._aligner.refuse(record)
                continue
            # What comes too late holds no tick open; a sender whose clock went back says only that.
            outcome = self._aligner.take(record, admitted)
            if outcome is Outcome.PENDING:
                heard.add(admitted.payload.stream)
        self._watch_silence(heard)
        taken.observations = self._aligner.closed()
        return taken

    def flush(self) -> Taken:
        """Return the ticks that are still open: the end of a bounded run."""
        return Taken(observations=self._aligner.flush())

    def close_before(self, tick: int) -> Taken:
        """Return the ticks below ``tick`` that were still open: nothing of them is to come."""
        return Taken(observations=self._aligner.close_before(tick))

    def next_tick(self) -> int | None:
        """Return the first tick that is not closed; None before any is."""
        return self._aligner.next_tick()

    def newest_ns(self) -> dict[str, int]:
        """Return the newest event time of each stream that has spoken."""
        return self._aligner.newest_ns()

    def decisions(self) -> dict[TopicPartition, Decisions]:
        """Return what a repeat of the records kept since :meth:`positions` must decide alike."""
        return self._aligner.decisions()

    def pace(self) -> Pace:
        """Return the topics whose streams have run far ahead of others with unread records."""
        newest_ns = self._aligner.newest_ns()
        leader_ns = max(newest_ns.values(), default=0)
        behind_ns = {
            name: newest_ns.get(name, 0)
            for name, topic in self._topic_of.items()
            if leader_ns - newest_ns.get(name, 0) > self._max_ahead_ns and self._has_unread(topic)
        }
        if not behind_ns:
            return Pace()
        slowest_ns = min(behind_ns.values())
        ahead = {
            self._topic_of[name]
            for name, at_ns in newest_ns.items()
            if at_ns - slowest_ns > self._max_ahead_ns
        }
        return Pace(frozenset(ahead), frozenset(self._topic_of[name] for name in behind_ns))

    def skip_to(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything below ``positions`` was read, whoever it was for."""
        self._aligner.skip_to(positions)

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offsets to commit: the oldest record that an open window needs."""
        return self._aligner.positions()

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record, per partition."""
        return self._aligner.counts()

    def total(self) -> Counts:
        """Return what became of every record."""
        return self._aligner.total()

    def health(self) -> list[StreamHealth]:
        """Return how each stream does."""
        return self._aligner.health()

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart at :meth:`positions` needs, for JSON."""
        return self._aligner.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``. Call before the first record."""
        self._aligner.restore(snapshot)

    def _watch_silence(self, heard: set[str]) -> None:
        now_ns = self._clock.monotonic_ns()
        self._idle_watch.heard(heard, now_ns=now_ns)
        suspects = self._idle_watch.suspects(self._aligner.newest_ns(), now_ns=now_ns)
        self._aligner.tell_idle(
            stream for stream in suspects if not self._has_unread(self._topic_of[stream])
        )


def align_recorded(
    records: Iterable[Record], plant: Plant, gate: Gate = RELEASED
) -> Iterator[Observation]:
    """Yield the ticks of stored records as the live chain would have seen them.

    ``records`` come in the order in which the broker got them; refused ones are left out here, the
    live chain has dead-lettered them.

    Raises:
        ObjectStoreUnavailableError, BrokerUnavailableError: The gate cannot be opened now.
    """
    aligner, admission = Aligner(plant, context_ticks=MAX_GAP_TICKS), gate.of(plant)
    for record in records:
        try:
            admitted = admission.admit(record)
        except RecordError:
            aligner.refuse(record)
            continue
        aligner.take(record, admitted)
        yield from aligner.closed()
    yield from aligner.flush()


MAX_GAP_TICKS = 24
"""Silence of the whole plant that is still shown as empty ticks when records are read back."""
