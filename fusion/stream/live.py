"""The live loop: records in, explained alarms out, every record accounted for.

A process reads the partitions that its group gives it; each partition number is a shard with the
plants whose records lie in it. What a shard says, the offsets below the oldest record that an open
window still needs, and the checkpoint that a restart goes on from are published in one transaction.
A process killed at any moment has either said all of it or nothing; whoever owns the partition next
reads the open windows again and goes on at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fusion.alignment import Counts
from fusion.errors import FencedError, InferenceUnavailableError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, Source
from fusion.schema import AlarmState, Lost, Record, TopicPartition
from fusion.stream.figures import FIGURES_EVERY_S, LiveFigures, plant_figures
from fusion.stream.progress import ProgressWatch
from fusion.stream.shard import Shard, Step, by_number

POLL_TIMEOUT_S = 0.1
SAY_EVERY_S = 0.1
"""A transaction costs a few milliseconds: what comes in between goes together. Alarms need not
wait."""
LOOK_EVERY_S = 1.0
FENCED_PATIENCE_S = 60.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0


@dataclass(slots=True)
class Live:
    """The live process: a source, and a shard for each partition number that it is given."""

    source: Source
    clock: Clock
    open_shard: Callable[[int], Shard]
    on_beat: Callable[[ProgressWatch], None] = lambda _: None
    """Called about once a second while the loop goes round; what a watchdog listens to."""
    on_lost: Callable[[Lost], None] = lambda _: None
    """Hears of every record that the broker had deleted before it was read."""
    on_paused: Callable[[InferenceUnavailableError], None] = lambda _: None
    """Hears, each time anew, why scoring waits. The stream is held back, nothing is dropped."""
    should_reopen: Callable[[], bool] = lambda: False
    """Whether other models have come into service: every shard is then opened anew with them."""
    on_figures: Callable[[LiveFigures], None] | None = None
    """Hears every few seconds how all that is watched here does; what monitoring shows."""
    on_taken: Callable[[Sequence[Record]], None] | None = None
    """Hears of the records of each poll once they are aligned; for traces."""
    shards: dict[int, Shard] = field(default_factory=dict[int, Shard])
    progress: ProgressWatch = field(default_factory=ProgressWatch)
    _stamps: dict[int, frozenset[tuple[TopicPartition, int]]] = field(
        default_factory=dict[int, frozenset[tuple[TopicPartition, int]]]
    )
    _opened: set[int] = field(default_factory=set[int])
    """Partition numbers that were given to this process since the last poll."""
    _fenced_since_ns: dict[int, int] = field(default_factory=dict[int, int])
    _said_ns: dict[int, int] = field(default_factory=dict[int, int])
    _ends: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    _is_end_fresh: bool = False
    """Whether ``_ends`` was asked for since the last poll."""
    _held: frozenset[TopicPartition] = frozenset()
    _looked_ns: int = 0
    _told_ns: int | None = None
    _worked_ns: dict[int, int] = field(default_factory=dict[int, int])
    _num_let_go: int = 0
    """How often other models have come into service."""

    def join(self, *, patience_s: float) -> None:
        """Wait, at most ``patience_s``, until this process reads its partitions."""
        deadline_ns = self.clock.monotonic_ns() + round(patience_s * NANOSECONDS)
        while not self.shards and self.clock.monotonic_ns() < deadline_ns:
            self.source.poll(timeout_s=POLL_TIMEOUT_S)  # (opening a shard seeks back)
            self._follow_assignment()

    def steps(self, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Yield every step until ``should_stop`` says so; what was yielded is durable.

        Raises:
            BrokerUnavailableError: The broker is away. Nothing is lost: open a new live process.
            FencedError: Another process has taken this one's place for good.
        """
        while not should_stop():
            if self.should_reopen():
                for number in list(self.shards):
                    yield from self._say(number)
                self._let_go()
            batches = by_number(self.source.poll(timeout_s=self._patience_s()))
            self._opened.clear()
            self._is_end_fresh = False
            self._follow_assignment()
            self._account_for_lost()
            for number in list(self.shards):
                # Of a partition that was given anew, the poll's records are read again.
                records = [] if number in self._opened else batches.get(number, [])
                yield from self._answer(number, records, should_stop)
            self._look_around()
            self._balance()
        for number in list(self.shards):
            yield from self._say(number)

    def finish(self, *, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """Score the ticks that are still open, as if their missing records never came.

        When other models come into service meanwhile, they read the open windows first.
        """
        num_before = None
        while self._num_let_go != num_before and not should_stop():
            if num_before is not None:
                yield from self.steps(should_stop=lambda: should_stop() or self.is_caught_up())
            num_before = self._num_let_go
            for number, shard in list(self.shards.items()):
                shard.flush()
                self._work(number, should_stop)
                if self.shards.get(number) is shard:
                    yield from self._say(number)

    def is_caught_up(self) -> bool:
        """Whether this process reads something, and has read all that the broker holds of it."""
        positions = self.source.positions()
        ends = self.source.end_offsets()
        is_joined = bool(positions) and {part.partition for part in positions} <= set(self.shards)
        return is_joined and all(positions.get(part, 0) >= end for part, end in ends.items())

    def has_unread(self, part: TopicPartition) -> bool:
        """Whether the broker holds unread records of ``part``, asked since the last poll."""
        position = self.source.positions().get(part, 0)
        if self._ends.get(part, 0) <= position and not self._is_end_fresh:
            self._ends, self._is_end_fresh = self.source.end_offsets(), True
        return self._ends.get(part, 0) > position

    def counts(self) -> dict[TopicPartition, Counts]:
        """Return what became of every record, per partition."""
        found: dict[TopicPartition, Counts] = {}
        for shard in self.shards.values():
            found |= shard.counts()
        return found

    def total(self) -> Counts:
        """Return what became of every record."""
        return sum(self.counts().values(), Counts())

    def alarm_states(self) -> list[AlarmState]:
        """Return the state of every alarm of every plant that is watched here."""
        chains = [chain for shard in self.shards.values() for chain in shard.chains.values()]
        return [state for chain in chains for state in chain.alarms.states()]

    def figures(self) -> LiveFigures:
        """Return how all that is watched here does, as values that no longer change."""
        return LiveFigures(
            t_ns=self.clock.now_ns(),
            monotonic_ns=self.clock.monotonic_ns(),
            counts=self.counts(),
            lags={part: lag.offsets for part, lag in self.progress.lags.items()},
            plants=tuple(
                plant_figures(chain)
                for shard in self.shards.values()
                for chain in shard.chains.values()
            ),
            waits_for=self.progress.waits_for,
        )

    def close(self) -> None:
        """Free the publishers. What was not said is said again by the next owner."""
        for number in list(self.shards):
            self._drop(number)

    def _answer(
        self, number: int, records: list[Record], should_stop: Callable[[], bool]
    ) -> Iterator[Step]:
        """Take what one poll brought through the whole chain; say it when it is time."""
        if number in self.shards:  # (it may have moved while another shard was at work)
            self.shards[number].take(records)
            if self.on_taken is not None and records:
                self.on_taken(records)
        if not self._work(number, should_stop):
            return
        since_ns = self.clock.monotonic_ns() - self._said_ns.get(number, 0)
        is_urgent = number in self.shards and self.shards[number].is_urgent
        if is_urgent or since_ns >= SAY_EVERY_S * NANOSECONDS:
            yield from self._say(number)

    def _work(self, number: int, should_stop: Callable[[], bool]) -> bool:
        """Score what is aligned, however long inference is away; False when told to stop."""
        pause_s = FIRST_PAUSE_S
        while number in self.shards:
            began_ns = self.clock.monotonic_ns()
            try:
                self.shards[number].work()
                self.progress.waits_for = None
                took_ns = self.clock.monotonic_ns() - began_ns
                self._worked_ns[number] = self._worked_ns.get(number, 0) + took_ns
                break
            except InferenceUnavailableError as why:
                self.progress.waits_for = str(why)
                if should_stop():
                    self._drop(number)  # (what was taken and not said is read again)
                    return False
                self.on_paused(why)
            # Paused but polling: the group must not think that this member is gone.
            self.source.keep_alive()
            self.clock.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            if self.should_reopen():
                self._let_go()
            self._follow_assignment()
            self._look_around()
        return True

    def _patience_s(self) -> float:
        """Return how long to wait for records: no longer than until something is to be said."""
        now_ns = self.clock.monotonic_ns()
        due_ns = [
            self._said_ns.get(number, 0) + round(SAY_EVERY_S * NANOSECONDS)
            for number, shard in self.shards.items()
            if shard.has_something_to_say
        ]
        left_s = (min(due_ns) - now_ns) / NANOSECONDS if due_ns else POLL_TIMEOUT_S
        return min(max(left_s, 0.0), POLL_TIMEOUT_S)

    def _say(self, number: int) -> Iterator[Step]:
        shard = self.shards.get(number)
        if shard is None or not shard.has_something_to_say:
            return
        try:
            step = shard.say()
        except FencedError:
            # The partition has moved, and this process will hear of it in one of the next polls.
            self._drop(number)
            self._fenced_since_ns.setdefault(number, self.clock.monotonic_ns())
            return
        self._said_ns[number] = self.clock.monotonic_ns()
        step.work_s = self._worked_ns.pop(number, 0) / NANOSECONDS
        yield step

    def _follow_assignment(self) -> None:
        """Open the shards that are new here, and let go of those that went elsewhere."""
        stamps: dict[int, set[tuple[TopicPartition, int]]] = {}
        for part, stamp in self.source.assigned().items():
            stamps.setdefault(part.partition, set()).add((part, stamp))
        for number in [n for n in self._stamps if self._stamps[n] != stamps.get(n)]:
            self._drop(number)
            del self._stamps[number]
            self._fenced_since_ns.pop(number, None)
        for number, now in stamps.items():
            if number not in self._stamps:
                # Opening it seeks to what is committed.
                self.shards[number] = self.open_shard(number)
                self._stamps[number] = frozenset(now)
                self._opened.add(number)
                self._ends, self._held = {}, frozenset()
                self.source.hold(())
        for number, since_ns in self._fenced_since_ns.items():
            if self.clock.monotonic_ns() - since_ns > FENCED_PATIENCE_S * NANOSECONDS:
                raise FencedError(
                    f"partition {number} is written by another process, and the group still gives "
                    "it to this one; stop one of the two, or give each its own FUSION_REPLICA"
                )

    def _account_for_lost(self) -> None:
        for lost in self.source.take_lost():
            shard = self.shards.get(lost.partition.partition)
            if shard is not None:  # (else its next owner meets the same hole)
                shard.lose(lost)
                self.on_lost(lost)

    def _drop(self, number: int) -> None:
        shard = self.shards.pop(number, None)
        if shard is not None:
            shard.close()

    def _let_go(self) -> None:
        """Drop every shard, to be opened anew: what was taken and not said is read again."""
        self._num_let_go += 1
        for number in list(self._stamps):
            self._drop(number)
            del self._stamps[number]

    def _look_around(self) -> None:
        """About once a second: where reading stands."""
        now_ns = self.clock.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_EVERY_S * NANOSECONDS:
            return
        self._looked_ns = now_ns
        self._ends = self.source.end_offsets()
        self.progress.see(self.source.positions(), self._ends, now_ns=now_ns)
        self.progress.has_joined = self.source.has_joined()
        self.progress.lost = {
            part: counts.lost for part, counts in self.counts().items() if counts.lost
        }
        self.on_beat(self.progress)
        is_due = self._told_ns is None or now_ns - self._told_ns >= FIGURES_EVERY_S * NANOSECONDS
        if self.on_figures is not None and is_due:
            self._told_ns = now_ns
            self.on_figures(self.figures())

    def _balance(self) -> None:
        """Let streams that are far ahead wait for those that have records to read."""
        held = frozenset(
            TopicPartition(topic, number)
            for number, shard in self.shards.items()
            for topic in shard.topics_ahead()
        )
        if held != self._held:
            self.source.hold(held)
            self._held = held
