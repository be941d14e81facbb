"""Members of one group on a real Kafka: whole numbers, little movement, nobody replaced unseen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from connectors.kafka_io import (
    KafkaPublisher,
    KafkaSettings,
    KafkaSource,
    Membership,
    apply_topics,
)
from fusion.errors import FencedError, InputError, TopicMismatchError
from fusion.plant import TopicSpec
from fusion.schema import Message, TopicPartition

NUM_PARTITIONS = 6
PATIENCE_S = 60.0

Open = Callable[..., KafkaSource]


@pytest.fixture
def settings(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap)


@pytest.fixture
def topics(settings: KafkaSettings, unique: str) -> list[str]:
    names = [f"{unique}.{kind}" for kind in ("telemetry", "audio", "video")]
    specs = dict.fromkeys(names, TopicSpec(NUM_PARTITIONS))
    apply_topics(settings, specs, update_configs=False)
    return names


@pytest.fixture
def join(settings: KafkaSettings, topics: list[str], unique: str) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_member(instance_id: str | None = None) -> KafkaSource:
            source = KafkaSource(settings, topics, unique, Membership(instance_id, 6.0))
            stack.callback(source.close)
            return source

        yield open_member


def numbers(source: KafkaSource) -> set[int]:
    return {part.partition for part in source.assigned()}


def poll_until(
    members: Sequence[KafkaSource], is_done: Callable[[], bool], *, timeout_s: float = 0.05
) -> None:
    """Let ``members`` take turns, as processes do at once, until ``is_done``."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_done():
        assert time.monotonic() < deadline_s, [sorted(numbers(member)) for member in members]
        for member in members:
            member.poll(timeout_s=timeout_s)


def share_everything(members: Sequence[KafkaSource]) -> bool:
    shares = [numbers(member) for member in members]
    return all(shares) and sorted(n for share in shares for n in share) == list(
        range(NUM_PARTITIONS)
    )


def test_a_number_is_assigned_with_all_its_topics(join: Open, topics: list[str]) -> None:
    members = [join(), join(), join()]
    poll_until(members, lambda: share_everything(members))
    for member in members:
        assert len(numbers(member)) == 2
        assert set(member.assigned()) == {
            TopicPartition(topic, number) for topic in topics for number in numbers(member)
        }


def test_members_that_are_busy_between_polls_come_to_rest(join: Open) -> None:
    members = [join(), join(), join()]

    def have_worked_and_share() -> bool:
        time.sleep(0.2)  # the group answers while nobody polls: that is what is tested here
        return share_everything(members)

    poll_until(members, have_worked_and_share, timeout_s=0)


def test_metadata_that_change_and_change_back_leave_no_member_behind(join: Open) -> None:
    first = join()
    poll_until([first], lambda: share_everything([first]))
    coordinator = first._consumer._coordinator
    seen = coordinator._metadata_snapshot
    coordinator._metadata_snapshot = {}
    first.poll(timeout_s=0)
    coordinator._metadata_snapshot = seen
    second = join()
    poll_until([first, second], lambda: share_everything([first, second]))


def test_a_newcomer_takes_its_share_and_the_rest_stays(join: Open) -> None:
    first = join()
    poll_until([first], lambda: len(numbers(first)) == NUM_PARTITIONS)
    before = first.assigned()
    second = join()
    poll_until([first, second], lambda: share_everything([first, second]))
    after = first.assigned()
    assert len(numbers(first)) == len(numbers(second)) == 3
    assert {part: before[part] for part in after} == after, "what stayed was never taken away"
    second.close()
    poll_until([first], lambda: len(numbers(first)) == NUM_PARTITIONS)
    came_back = {part: stamp for part, stamp in first.assigned().items() if part not in after}
    assert all(stamp > before[part] for part, stamp in came_back.items())


def test_a_member_that_comes_back_under_its_name_finds_its_partitions(join: Open) -> None:
    one, two = join("one"), join("two")
    poll_until([one, two], lambda: share_everything([one, two]))
    had, others = numbers(one), two.assigned()
    one.close()  # (with a name, nobody else is told)
    again = join("one")
    poll_until([again, two], lambda: share_everything([again, two]))
    assert numbers(again) == had
    assert two.assigned() == others


def test_of_two_members_of_one_name_the_older_must_stop(join: Open) -> None:
    older = join("same")
    poll_until([older], lambda: len(numbers(older)) == NUM_PARTITIONS)
    newer = join("same")
    with pytest.raises(FencedError, match="FUSION_REPLICA"):
        poll_until([newer, older], lambda: False)
    poll_until([newer], lambda: len(numbers(newer)) == NUM_PARTITIONS)


def test_a_writer_of_a_number_shuts_out_the_one_before(
    settings: KafkaSettings, topics: list[str], unique: str
) -> None:
    former = KafkaPublisher(settings, group=unique, transactional_id=f"{unique}-0")
    former.publish([Message(topics[0], "k", b"1")], commit={TopicPartition(topics[0], 0): 1})
    heir = KafkaPublisher(settings, group=unique, transactional_id=f"{unique}-0")
    with pytest.raises(FencedError):
        former.publish([Message(topics[0], "k", b"2")], commit={TopicPartition(topics[0], 0): 2})
    former.close()
    heir.publish([Message(topics[0], "k", b"3")], commit={TopicPartition(topics[0], 0): 3})
    heir.close()


def test_topics_of_unequal_numbers_cannot_be_read_together(
    settings: KafkaSettings, topics: list[str], unique: str
) -> None:
    odd = {f"{unique}.odd": TopicSpec(NUM_PARTITIONS + 1)}
    apply_topics(settings, odd, update_configs=False)
    with pytest.raises(InputError, match=r"same number of partitions.*odd': 7"):
        KafkaSource(settings, [*topics, f"{unique}.odd"], unique, Membership(None, 6.0))


def test_partitions_that_are_added_to_one_topic_are_noticed(
    join: Open, settings: KafkaSettings, topics: list[str]
) -> None:
    member = join()
    poll_until([member], lambda: len(numbers(member)) == NUM_PARTITIONS)
    assert member.end_offsets()
    admin: Any = KafkaAdminClient(**settings.client_options())
    with contextlib.closing(admin):
        admin.create_partitions({topics[0]: NUM_PARTITIONS + 1})

    def ask() -> bool:
        member.end_offsets()
        return False

    with pytest.raises(TopicMismatchError, match=r"must keep its 6 partitions .* but has 7 now"):
        poll_until([member], ask)
