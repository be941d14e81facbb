"""A shard: several plants in one partition, each record answered once, also after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fusion.alarms import AlarmEngine
from fusion.alignment import Counts
from fusion.errors import DeadLetterReason, RecordError, TopicMismatchError
from fusion.plant import NANOSECONDS, Plant, StreamSender, parse_plant
from fusion.schema import (
    UNREAD_HEADER,
    Lost,
    Message,
    Record,
    TelemetryBatch,
    TopicPartition,
)
from fusion.stream.chain import Chain
from fusion.stream.checkpoint import (
    ShardCheckpoint,
    checkpoint_of,
    newest_by_key,
    scorer_of,
    shard_checkpoint_of,
)
from fusion.stream.intake import Intake
from fusion.stream.shard import Shard

PLANT_FILE = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: ASSET}
tick_s: 1
allowed_lateness_s: 1
streams:
  - {name: process, modality: telemetry, rate_hz: 1, tags: [{name: level, unit: m, range: [0, 1]}]}
"""
ONE, OTHER = (parse_plant(PLANT_FILE.replace("ASSET", a), origin="p.yaml") for a in ("x", "y"))
T0_NS = 1_767_225_600 * NANOSECONDS
PART = TopicPartition("p.telemetry", 3)
COMMANDS = TopicPartition("p.alarm-commands", 3)


@dataclass
class Kept:
    """A publisher that remembers."""

    messages: list[Message] = field(default_factory=list[Message])
    positions: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])

    def publish(
        self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
    ) -> None:
        self.messages += messages
        self.positions |= commit or {}

    def close(self) -> None:
        """Nothing to free."""

    def of(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message.topic == f"p.{kind}"]

    def newest_checkpoints(self) -> dict[str, bytes]:
        kept = [
            Record(m.topic, 0, n, m.key, m.value, m.headers, t_broker_ns=0)
            for n, m in enumerate(self.of("checkpoints"))
        ]
        return newest_by_key(kept)


class NoWindow:
    """Stands for the model: no window is ever full, so nothing is scored."""

    def push(self, _observation: object) -> None:
        return None


def open_chain(plant: Plant, newest: Mapping[str, bytes]) -> Chain:
    clock = cast("Any", SimpleNamespace(monotonic_ns=lambda: T0_NS))
    scorer = cast("Any", SimpleNamespace(snapshot=dict, restore=lambda _: None))
    chain = Chain(
        plant,
        "1",
        Intake(plant, clock, context_ticks=2, has_unread=lambda _: False),
        cast("Any", NoWindow()),
        scorer,
        AlarmEngine(plant),
        partition=PART.partition,
    )
    saved = checkpoint_of(plant, newest)
    if saved is not None:
        chain.resume(saved, scorer_of(plant, saved, newest))
    return chain


def open_shard(kept: Kept) -> Shard:
    newest = kept.newest_checkpoints()
    plants = {str(plant.address): plant for plant in (ONE, OTHER)}

    def chain_of(address: str) -> Chain | None:
        return open_chain(plants[address], newest) if address in plants else None

    checkpoint = shard_checkpoint_of(PART.partition, newest)
    shard = Shard(PART.partition, ONE, kept, open_chain=chain_of, checkpoint=checkpoint)
    for address, plant in plants.items():
        if checkpoint_of(plant, newest) is not None:
            shard.add(address, open_chain(plant, newest))
    return shard


class Feed:
    """The records of one partition, in the order in which they were made."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._senders = {
            plant.address.asset: StreamSender(plant, "process", source="t", epoch="1")
            for plant in (ONE, OTHER)
        }

    def say(self, asset: str, second: int) -> None:
        t_ns = np.array([T0_NS + second * NANOSECONDS])
        good, status = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint32)
        batch = TelemetryBatch(
            "process", ("level",), t_ns, t_ns, t_ns, np.array([[0.5]]), good, status
        )
        self.add(self._senders[asset].message(batch))

    def add(self, message: Message) -> None:
        offset = sum(1 for each in self.records if each.topic == message.topic)
        self.records.append(
            Record(message.topic, 3, offset, message.key, message.value, message.headers, T0_NS)
        )

    def stranger(self) -> None:
        self.add(Message("p.telemetry", "who/is/this", b"?", {}))

    def since(self, positions: Mapping[TopicPartition, int]) -> list[Record]:
        return [r for r in self.records if r.offset >= positions.get(r.topic_partition, 0)]


def run(shard: Shard, records: list[Record]) -> None:
    shard.take(records)
    shard.work()
    shard.say()


def test_every_record_ends_once_though_it_is_read_again_for_a_plant_that_is_slow() -> None:
    feed, kept = Feed(), Kept()
    feed.say("y", 0)  # y falls silent here: its open tick needs this record for ever
    for second in range(30):
        feed.say("x", second)
        if second % 10 == 0:
            feed.stranger()
    shard = open_shard(kept)
    run(shard, feed.records)
    before = shard.counts()[PART]
    assert kept.positions == {PART: 0}, "the silent plant holds back what is committed"
    assert len(kept.of("dead-letters")) == 3

    for second in range(30, 40):
        feed.say("x", second)
    restarted = open_shard(kept)
    run(restarted, feed.since(kept.positions))
    after = restarted.counts()[PART]
    assert after.read == len(feed.records) == before.read + 10
    assert after.dead_lettered == 3
    assert len(kept.of("dead-letters")) == 3, "a stranger's record is refused once"


def test_the_committed_offset_is_below_what_any_plant_needs() -> None:
    feed, kept = Feed(), Kept()
    for second in range(20):
        feed.say("x", second)
        feed.say("y", second)
    shard = open_shard(kept)
    run(shard, feed.records)
    needed = [chain.intake.positions()[PART] for chain in shard.chains.values()]
    assert kept.positions[PART] == min(needed)
    assert 0 < kept.positions[PART] < len(feed.records)


def test_a_plant_whose_records_are_all_refused_commits_all_the_same() -> None:
    feed, kept = Feed(), Kept()
    for _ in range(30):
        feed.add(Message("p.telemetry", str(ONE.address), b"no Avro", {}))
    shard = open_shard(kept)
    run(shard, feed.records)
    assert kept.positions == {PART: 30}
    assert shard.counts()[PART] == Counts(dead_lettered=30)
    run(open_shard(kept), feed.records)
    assert len(kept.of("dead-letters")) == 30


def test_a_command_that_is_none_is_refused_once_and_counts_as_read() -> None:
    feed, kept = Feed(), Kept()
    feed.add(Message("p.alarm-commands", str(ONE.address), b"\xff\xfe not JSON", {}))
    run(open_shard(kept), feed.records)
    assert kept.positions == {COMMANDS: 1}
    assert [m.headers["reason"] for m in kept.of("dead-letters")] == ["wrong-schema"]
    run(open_shard(kept), feed.records)  # (a group's offsets may go back)
    assert len(kept.of("dead-letters")) == 1


def test_nothing_to_say_until_something_was_taken() -> None:
    feed, kept = Feed(), Kept()
    shard = open_shard(kept)
    assert not shard.has_something_to_say
    feed.say("x", 0)
    shard.take(feed.records)
    assert shard.has_something_to_say
    step = shard.say()
    assert (step.num_records, shard.has_something_to_say) == (1, False)
    assert shard.counts()[PART] == Counts(pending=1)


def test_a_checkpoint_of_each_plant_and_of_the_number_are_in_the_same_transaction() -> None:
    feed, kept = Feed(), Kept()
    feed.say("x", 0)
    feed.say("y", 0)
    run(open_shard(kept), feed.records)
    keys = [message.key for message in kept.of("checkpoints")]
    assert keys == [str(ONE.address), str(OTHER.address), "partition:3"]


def test_a_checkpoint_of_another_release_is_no_checkpoint() -> None:
    other = b'{"what_is_this": 1}'
    assert checkpoint_of(ONE, {str(ONE.address): other}) is None
    assert shard_checkpoint_of(3, {"partition:3": other}) is None


def test_an_offset_below_what_was_read_ends_the_shard_before_it_says_anything() -> None:
    kept, feed = Kept(), Feed()
    shard = open_shard(kept)
    for second in range(4):
        feed.say("x", second)
    shard.take(feed.records)
    shard.work()
    shard.say()
    num_said = len(kept.messages)
    with pytest.raises(TopicMismatchError, match="must go on at offset 4 or later, got 1"):
        shard.take(feed.records[1:2])
    assert len(kept.messages) == num_said


def test_a_record_that_its_plant_must_not_have_here_is_refused_once() -> None:
    kept, feed = Kept(), Feed()
    feed.say("x", 0)

    def refuse(_address: str) -> Chain | None:
        raise RecordError(DeadLetterReason.WRONG_PARTITION, "it lives in partition 1")

    def read() -> Shard:
        checkpoint = shard_checkpoint_of(PART.partition, kept.newest_checkpoints())
        shard = Shard(PART.partition, ONE, kept, open_chain=refuse, checkpoint=checkpoint)
        shard.take(feed.records)
        shard.say()
        return shard

    assert read().counts() == read().counts() == {PART: Counts(dead_lettered=1)}
    assert [m.headers["reason"] for m in kept.of("dead-letters")] == ["wrong-partition"]


def test_what_is_lost_is_said_and_counted_once_however_often_it_is_met() -> None:
    kept = Kept()
    shard = open_shard(kept)
    assert not shard.has_something_to_say
    shard.lose(Lost(PART, 4, 9))
    assert shard.has_something_to_say
    shard.say()
    assert not shard.has_something_to_say
    assert kept.positions[PART] == 9
    again = open_shard(kept)
    assert again.counts() == {PART: Counts(lost=5)}
    again.lose(Lost(PART, 2, 11))  # (going further back, it meets the same hole)
    again.say()
    assert open_shard(kept).counts() == {PART: Counts(lost=9)}


def test_what_stands_for_a_record_that_was_not_unfolded_says_why_it_is_refused() -> None:
    kept, feed = Kept(), Feed()
    feed.add(
        Message("p.telemetry", "", b"", {UNREAD_HEADER: "too-large: a batch must not be a bomb"})
    )
    feed.say("x", 0)
    shard = open_shard(kept)
    run(shard, feed.records)
    assert shard.counts()[PART] == Counts(pending=1, dead_lettered=1)
    (letter,) = kept.of("dead-letters")
    assert letter.headers["reason"] == "too-large"
    assert letter.headers["message"] == "a batch must not be a bomb"
    assert letter.headers["original-offset"] == "0"


def test_a_topic_that_is_read_no_more_is_not_in_what_is_committed() -> None:
    kept, feed, gone = Kept(), Feed(), TopicPartition("p.audio", 3)
    feed.say("x", 0)
    checkpoint = ShardCheckpoint.of({gone: 7}, {}, topic_ids={"p.audio": "then"})
    chain = open_chain(ONE, {})
    shard = Shard(
        PART.partition,
        ONE,
        kept,
        open_chain=lambda _: chain,
        checkpoint=checkpoint,
        starts={PART: 0},
        topic_ids={"p.telemetry": "now"},
    )
    run(shard, feed.records)
    assert kept.positions == {PART: 0}
    saved = shard_checkpoint_of(PART.partition, kept.newest_checkpoints())
    assert saved is not None
    assert saved.read_up_to() == {gone: 7, PART: 1}
    assert saved.topic_ids == {"p.audio": "then", "p.telemetry": "now"}
