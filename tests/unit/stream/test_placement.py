"""Checkpoints are used only over the topics and in the partition that they were written for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fusion.errors import DeadLetterReason, RecordError, TopicMismatchError
from fusion.plant import parse_plant
from fusion.schema import TopicPartition
from fusion.stream.checkpoint import Checkpoint, ShardCheckpoint, scorer_key, shard_key
from fusion.stream.placement import LOOK_AGAIN_S, Homes, require_onward, require_same_topics
from tests.clocks import HandClock

PLANT = parse_plant(
    """
prefix: rig
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
topics: {partitions: 3}
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [{name: level, unit: m, range: [0, 1]}]}
""",
    origin="rig.yaml",
)
TOPIC = "rig.telemetry"


def home_at(number: int, *, fingerprint: str = "of an older description") -> dict[str, bytes]:
    saved = Checkpoint(
        plant_fingerprint=fingerprint,
        model_version="1",
        partition=number,
        delivered_tick=-1,
        accounts={},
        intake={},
        alarms={},
    )
    return {
        "plant": saved.model_dump_json().encode(),
        scorer_key(PLANT): b"{}",
        shard_key(number): ShardCheckpoint().model_dump_json().encode(),
    }


def shard_said(
    number: int, *, num_partitions: int | None, topic_id: str = "first"
) -> dict[str, bytes]:
    part = TopicPartition(TOPIC, number)
    saved = ShardCheckpoint.of(
        {part: 7}, {}, num_partitions=num_partitions, topic_ids={TOPIC: topic_id}
    )
    return {shard_key(number): saved.model_dump_json().encode()}


def test_a_plant_is_at_home_where_its_checkpoint_is() -> None:
    homes = Homes(dict, HandClock())
    homes.learn(home_at(2))
    homes.require("plant", 2)
    with pytest.raises(RecordError, match="must come in partition 2") as refused:
        homes.require("plant", 0)
    assert refused.value.reason is DeadLetterReason.WRONG_PARTITION


def test_a_plant_without_a_checkpoint_is_at_home_where_it_comes_first() -> None:
    homes = Homes(dict, HandClock())
    homes.require("plant", 1)
    homes.require("plant", 1)
    with pytest.raises(RecordError, match="got one in partition 0"):
        homes.require("plant", 0)


def test_a_misplaced_record_that_comes_first_makes_no_home() -> None:
    homes = Homes(dict, HandClock(), {"plant": 1, "moved": 1}.get)
    with pytest.raises(RecordError, match="must come in partition 1"):
        homes.require("plant", 0)
    homes.require("plant", 1)
    homes.require("unknown", 2)
    # What a checkpoint says counts more: its records lie there.
    homes.learn({"moved": home_at(2)["plant"]})
    homes.require("moved", 2)


def test_a_plant_that_is_new_here_is_looked_for_but_not_for_every_plant_anew() -> None:
    clock, looks = HandClock(), list[float]()

    def look() -> Mapping[str, bytes]:
        looks.append(sum(clock.slept_s))
        return home_at(2)

    homes = Homes(look, clock)
    homes.learn({})
    for number in range(50):
        homes.require(f"other {number}", 0)
    assert looks == []
    clock.sleep(LOOK_AGAIN_S + 1)
    with pytest.raises(RecordError):
        homes.require("plant", 0)
    homes.require("another", 0)
    assert looks == [LOOK_AGAIN_S + 1]


def test_equal_topics_are_gone_on_with() -> None:
    newest = shard_said(0, num_partitions=3) | shard_said(1, num_partitions=3)
    require_same_topics(PLANT, 2, newest, {TOPIC: "first", "rig.audio": "new here"})
    # The embedded broker names no topics, and older versions kept no names.
    require_same_topics(PLANT, 2, newest, {})
    require_same_topics(PLANT, 2, shard_said(0, num_partitions=None), {TOPIC: "first"})


@pytest.mark.parametrize("was", [2, 4])
def test_another_number_of_partitions_is_refused_with_what_to_do(was: int) -> None:
    with pytest.raises(TopicMismatchError) as refused:
        require_same_topics(PLANT, 0, shard_said(1, num_partitions=was), {TOPIC: "first"})
    assert f"must have {was} partitions" in str(refused.value)
    assert "they have 3" in str(refused.value)
    assert "delete all topics of 'rig', 'rig.checkpoints' among them" in str(refused.value)


def test_a_number_beyond_the_plant_files_is_refused() -> None:
    with pytest.raises(TopicMismatchError, match="broker now gives partition 3"):
        require_same_topics(PLANT, 3, {}, {})


def test_a_topic_of_another_name_of_the_brokers_is_refused() -> None:
    with pytest.raises(TopicMismatchError, match=r"\(first\), but it was deleted and made anew"):
        require_same_topics(PLANT, 0, shard_said(1, num_partitions=3), {TOPIC: "second"})


def test_offsets_only_grow() -> None:
    part = TopicPartition(TOPIC, 0)
    require_onward(PLANT, part, 7, expected_offset=7)
    require_onward(PLANT, part, 9, expected_offset=7)
    with pytest.raises(TopicMismatchError, match="offset 7 or later, got 0"):
        require_onward(PLANT, part, 0, expected_offset=7)
