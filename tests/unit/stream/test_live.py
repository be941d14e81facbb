"""The live loop: what it does when the group, the broker or inference misbehaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest

from fusion.alignment import Counts
from fusion.errors import FencedError, InferenceUnavailableError
from fusion.plant import NANOSECONDS
from fusion.schema import Lost, Record, TopicPartition
from fusion.stream.live import FENCED_PATIENCE_S, POLL_TIMEOUT_S, SAY_EVERY_S, Live
from fusion.stream.shard import Step
from tests.clocks import HandClock

AUDIO, VIDEO = TopicPartition("p.audio", 0), TopicPartition("p.video", 0)


@dataclass
class Group:
    """A source whose assignment the test decides; the contract suite has the real ones."""

    clock: HandClock
    stamps: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    batches: list[list[Record]] = field(default_factory=list[list[Record]])
    held: list[set[TopicPartition]] = field(default_factory=list[set[TopicPartition]])
    num_kept_alive: int = 0
    moves_at: int | None = None
    """At this call of ``keep_alive`` every partition goes to another member."""
    ends: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    lost: list[Lost] = field(default_factory=list[Lost])
    num_given: int = 0

    def poll(self, *, timeout_s: float) -> list[Record]:
        self.clock.sleep(timeout_s)
        batch = self.batches.pop(0) if self.batches else []
        self.num_given += len(batch)
        return batch

    def has_joined(self) -> bool:
        return True

    def assigned(self) -> dict[TopicPartition, int]:
        return dict(self.stamps)

    def keep_alive(self) -> None:
        self.num_kept_alive += 1
        if self.num_kept_alive == self.moves_at:
            self.stamps = {}

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        self.held.append(set(partitions))

    def positions(self) -> dict[TopicPartition, int]:
        return dict.fromkeys(self.stamps, self.num_given)

    def take_lost(self) -> list[Lost]:
        lost, self.lost = self.lost, []
        return lost

    def end_offsets(self) -> dict[TopicPartition, int]:
        return dict.fromkeys(self.stamps, 0) | self.ends


@dataclass
class OneShard:
    """Stands for a shard: takes, works and says as it is told."""

    ahead: set[str] = field(default_factory=set[str])
    failures: list[Exception] = field(default_factory=list[Exception])
    is_fenced: bool = False
    taken: list[Record] = field(default_factory=list[Record])
    said: list[list[int]] = field(default_factory=list[list[int]])
    is_closed: bool = False
    lost: list[Lost] = field(default_factory=list[Lost])
    chains: Mapping[str, Any] = field(default_factory=dict[str, Any])
    num_flushed: int = 0
    is_urgent: bool = False

    @property
    def has_something_to_say(self) -> bool:
        return bool(self.taken)

    def take(self, records: list[Record]) -> None:
        self.taken += records

    def work(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def lose(self, lost: Lost) -> None:
        self.lost.append(lost)

    def counts(self) -> dict[TopicPartition, Counts]:
        return {each.partition: Counts(lost=each.num_offsets) for each in self.lost}

    def flush(self) -> None:
        self.num_flushed += 1

    def say(self) -> Step:
        if self.is_fenced:
            raise FencedError("another one writes")
        self.said.append([record.offset for record in self.taken])
        self.taken = []
        return Step(len(self.said[-1]))

    def topics_ahead(self) -> set[str]:
        return self.ahead

    def close(self) -> None:
        self.is_closed = True


class Rig:
    """A live process with everything around it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.group = Group(self.clock, stamps={AUDIO: 1, VIDEO: 1})
        self.shards: list[OneShard] = []
        self.next_shard = OneShard()
        self.num_beats = 0
        self.live = Live(
            cast("Any", self.group), self.clock, cast("Any", self.open_shard), self.beat
        )

    def open_shard(self, _number: int) -> OneShard:
        self.shards.append(self.next_shard)
        self.next_shard = OneShard()
        return self.shards[-1]

    def beat(self, _progress: object) -> None:
        self.num_beats += 1

    def rounds(self, num_rounds: int) -> list[Step]:
        left = count(num_rounds, -1)
        return list(self.live.steps(should_stop=lambda: next(left) <= 0))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def records(*offsets: int, part: TopicPartition = AUDIO) -> list[Record]:
    return [Record(part.topic, part.partition, n, "k", b"", {}, t_broker_ns=0) for n in offsets]


def test_records_of_a_partition_that_was_just_given_are_left_to_the_next_poll(rig: Rig) -> None:
    rig.group.batches = [records(5), records(3, 4, 5)]
    rig.rounds(6)
    # Opening the shard seeks back: what the first poll brought comes again, in its place.
    assert [offset for said in rig.shards[0].said for offset in said] == [3, 4, 5]


def test_what_comes_in_quickly_is_said_together(rig: Rig) -> None:
    rig.rounds(1)
    rig.group.batches = [records(n) for n in range(20)]
    rig.rounds(20)
    said = rig.shards[0].said
    assert [offset for each in said for offset in each] == list(range(20))
    assert len(said) <= 20 * 0.1 / SAY_EVERY_S + 2


def test_an_alarm_does_not_wait_for_what_comes_after_it(rig: Rig) -> None:
    rig.rounds(1)
    rig.group.batches = [records(n) for n in range(10)]
    rig.shards[0].is_urgent = True
    rig.rounds(10)
    assert rig.shards[0].said == [[n] for n in range(10)]


def test_a_partition_that_left_and_came_back_is_opened_anew(rig: Rig) -> None:
    rig.rounds(1)
    rig.group.stamps = {AUDIO: 2, VIDEO: 2}
    rig.rounds(1)
    assert [shard.is_closed for shard in rig.shards] == [True, False]
    rig.group.stamps = {}
    rig.rounds(1)
    assert rig.shards[1].is_closed
    assert rig.live.shards == {}


def test_while_inference_is_away_the_process_stays_a_member_and_loses_nothing(rig: Rig) -> None:
    rig.rounds(1)
    rig.shards[0].failures = [InferenceUnavailableError("down")] * 8
    rig.group.batches = [records(0, 1)]
    rig.rounds(12)  # (each try asks whether to stop)
    assert rig.group.num_kept_alive == 8
    assert rig.shards[0].said == [[0, 1]]
    assert rig.num_beats > 1, "a watchdog hears that it waits"


def test_a_partition_that_moves_while_inference_is_away_is_let_go(rig: Rig) -> None:
    rig.rounds(1)
    shard = rig.shards[0]

    shard.failures = [InferenceUnavailableError("down")] * 2
    rig.group.moves_at = 1
    rig.group.batches = [records(0, 1)]
    assert rig.rounds(2) == []
    assert shard.is_closed
    assert shard.said == []


def test_one_that_is_fenced_waits_to_hear_that_its_partition_moved(rig: Rig) -> None:
    rig.next_shard.is_fenced = True
    rig.rounds(1)
    rig.group.batches = [records(0)]
    assert rig.rounds(2) == []
    assert rig.shards[0].is_closed
    rig.group.stamps = {}
    rig.rounds(1)
    rig.clock.sleep(2 * FENCED_PATIENCE_S)
    rig.rounds(1)  # (the partition went elsewhere: all is well)
    rig.group.stamps = {AUDIO: 3, VIDEO: 3}
    rig.group.batches = [[], records(0)]
    assert [step.num_records for step in rig.rounds(3)] == [1]


def test_one_that_is_fenced_and_keeps_its_partition_gives_up_with_what_to_do(rig: Rig) -> None:
    rig.next_shard.is_fenced = True
    rig.rounds(1)
    rig.group.batches = [records(0)]
    rig.rounds(2)
    rig.clock.sleep(FENCED_PATIENCE_S + 1)
    with pytest.raises(FencedError, match="give each its own FUSION_REPLICA"):
        rig.rounds(1)


def test_topics_that_are_ahead_are_held_until_they_are_not(rig: Rig) -> None:
    rig.rounds(1)
    rig.group.held.clear()
    rig.shards[0].ahead = {"p.audio"}
    rig.rounds(3)
    rig.shards[0].ahead = set()
    rig.rounds(3)
    assert rig.group.held == [{AUDIO}, set()]


STEPS_S = [-3_600.0, 3_600.0]


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_clock_that_is_set_changes_neither_what_is_said_together_nor_the_beats(
    step_s: float,
) -> None:
    def run(*, set_s: float) -> tuple[list[list[int]], int]:
        rig = Rig()
        rig.rounds(1)
        rig.group.batches = [records(n) for n in range(30)]
        rig.rounds(15)
        rig.clock.set_s(set_s)
        rig.rounds(40)
        return rig.shards[0].said, rig.num_beats

    said, num_beats = run(set_s=step_s)
    assert (said, num_beats) == run(set_s=0)
    assert num_beats >= 5


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_clock_that_is_set_neither_ends_nor_lengthens_the_wait_of_one_that_is_fenced(
    rig: Rig, step_s: float
) -> None:
    rig.next_shard.is_fenced = True
    rig.rounds(1)
    rig.group.batches = [records(0)]
    rig.rounds(2)
    rig.clock.set_s(step_s)
    rig.rounds(2)
    rig.clock.sleep(FENCED_PATIENCE_S + 1)
    with pytest.raises(FencedError):
        rig.rounds(1)


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_clock_that_is_set_changes_not_how_long_a_join_is_waited_for(
    rig: Rig, step_s: float
) -> None:
    rig.group.stamps = {}
    poll, began_ns = rig.group.poll, rig.clock.monotonic_ns()

    def poll_and_set(*, timeout_s: float) -> list[Record]:
        if rig.clock.slept_s == [POLL_TIMEOUT_S]:
            rig.clock.set_s(step_s)
        return poll(timeout_s=timeout_s)

    rig.group.poll = poll_and_set  # type: ignore[method-assign] the test steps the clock in it
    rig.live.join(patience_s=10)
    assert (rig.clock.monotonic_ns() - began_ns) / NANOSECONDS == pytest.approx(10, abs=0.2)


def test_caught_up_only_when_something_is_read_to_its_end(rig: Rig) -> None:
    assert not rig.live.is_caught_up(), "nothing is assigned to a shard yet"
    rig.rounds(1)
    assert rig.live.is_caught_up()
    rig.group.ends = {AUDIO: 1}
    assert not rig.live.is_caught_up()


def test_what_is_lost_is_accounted_for_where_it_is_read_and_told(rig: Rig) -> None:
    told: list[Lost] = []
    rig.live.on_lost = told.append
    ours, others = Lost(AUDIO, 3, 7), Lost(TopicPartition("p.audio", 1), 3, 7)
    rig.group.lost = [others, ours]
    rig.rounds(12)  # (a second, so that it looks around)
    assert rig.shards[0].lost == told == [ours]
    assert rig.live.total().lost == 4
    assert rig.live.progress.lost == {AUDIO: 4}


def test_whoever_listens_hears_why_scoring_waits(rig: Rig) -> None:
    heard: list[InferenceUnavailableError] = []
    rig.live.on_paused = heard.append
    rig.next_shard.failures = [InferenceUnavailableError("away"), InferenceUnavailableError("yet")]
    rig.group.batches = [[], [Record("p.audio", 0, 0, "k", b"", {}, 0)]]
    rig.rounds(5)
    assert [str(why) for why in heard] == ["away", "yet"]
    assert rig.group.num_kept_alive >= 2


def test_other_models_open_every_shard_anew_after_what_was_taken_is_said(rig: Rig) -> None:
    asked = iter([False, False, True])
    rig.live.should_reopen = lambda: next(asked, False)
    rig.group.batches = [[], [Record("p.audio", 0, 7, "k", b"", {}, 0)]]
    first = rig.next_shard
    rig.rounds(4)
    assert first.is_closed
    assert first.said == [[7]]
    assert len(rig.shards) == 2


def test_other_models_end_a_pause_that_the_old_ones_would_never_leave(rig: Rig) -> None:
    asked = iter([False, False, False, True])
    rig.live.should_reopen = lambda: next(asked, False)
    rig.next_shard.failures = [InferenceUnavailableError("broken")] * 100
    rig.group.batches = [[], [Record("p.audio", 0, 7, "k", b"", {}, 0)]]
    first = rig.next_shard
    rig.rounds(9)
    assert first.is_closed
    assert first.said == []
    assert len(rig.shards) == 2
    assert len(first.failures) == 97


def test_other_models_that_come_at_the_end_read_the_open_windows_and_close_them_too(
    rig: Rig,
) -> None:
    rig.rounds(1)
    rig.live.should_reopen = iter([True, *[False] * 100]).__next__
    broken, rig.next_shard = rig.shards[0], OneShard()
    broken.failures = [InferenceUnavailableError("broken")] * 100
    second = rig.next_shard
    rig.group.batches = [[], records(7)]
    rig.group.ends = {AUDIO: 1}  # (something is to be read again)
    list(rig.live.finish())
    assert broken.said == []
    assert second.said == [[7]]
    assert (broken.num_flushed, second.num_flushed) == (1, 1)
