"""Where a plant's records lie, and whether the topics are those that the checkpoints tell of.

A checkpoint answers for offsets of certain partitions of certain topics. Where a topic was made
anew, its offsets begin at 0 again and mean other records; where a plant's records come in another
partition, its offsets are not those of the checkpoint. To go on there would skip records that
nobody has read, so both are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fusion.errors import DeadLetterReason, RecordError, TopicMismatchError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock
from fusion.schema import TopicPartition
from fusion.stream.checkpoint import homes_of, shard_checkpoints_of

LOOK_AGAIN_S = 5.0
"""A plant that nobody knew is looked for among the checkpoints at most this often."""


class Homes:
    """Which partition number the records of each plant must come in: where its checkpoint is.

    ``look`` reads the newest checkpoints, to see whether another process knows a plant that is new
    here. One that nobody knows is at home where ``home_of`` says that the broker puts its key, not
    where it comes first: partitions are read in no order, and one misplaced record could make all
    others strangers. Where the broker does not say (None), it is where it comes first.
    """

    def __init__(
        self,
        look: Callable[[], Mapping[str, bytes]],
        clock: Clock,
        home_of: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        self._look = look
        self._home_of = home_of
        self._clock = clock
        self._looked_ns: int | None = None
        self._numbers: dict[str, int] = {}

    def learn(self, newest: Mapping[str, bytes]) -> None:
        """Note what the ``newest`` checkpoints say."""
        self._numbers |= homes_of(newest)
        self._looked_ns = self._clock.monotonic_ns()

    def require(self, address: str, number: int) -> None:
        """Return when ``number`` is the home of the plant, or becomes it now.

        Raises:
            RecordError: The plant is at home in another partition.
            BrokerUnavailableError: The broker did not show the checkpoints.
        """
        if address not in self._numbers and self._is_due():
            self.learn(self._look())
        if address not in self._numbers:
            by_key = self._home_of(address)
            self._numbers[address] = number if by_key is None else by_key
        home = self._numbers[address]
        if home != number:
            by_key = self._home_of(address)
            if by_key not in {None, home}:
                raise RecordError(
                    DeadLetterReason.WRONG_PARTITION,
                    f"records of {address!r} must come in partition {home}, where their checkpoint "
                    f"is (by Kafka's own clients they would belong in {by_key}), got one in "
                    f"partition {number}; keep the partitioner that its senders had, and replay "
                    "this dead letter with it",
                )
            raise RecordError(
                DeadLetterReason.WRONG_PARTITION,
                f"records of {address!r} must come in partition {home}, where their key belongs "
                f"or their checkpoint is, got one in partition {number}; let every sender choose "
                "the partition by the key as Kafka's own clients do (murmur2; what is built on "
                "librdkafka needs partitioner=murmur2_random), leave the number of partitions as "
                "it was, and replay this dead letter",
            )

    def _is_due(self) -> bool:
        if self._looked_ns is None:
            return True
        return self._clock.monotonic_ns() - self._looked_ns > LOOK_AGAIN_S * NANOSECONDS


def require_same_topics(
    plant: Plant, number: int, newest: Mapping[str, bytes], topic_ids: Mapping[str, str]
) -> None:
    """Return when the ``newest`` checkpoints were written over the topics that exist now.

    ``topic_ids`` are the broker's own names of the topics, which a topic that is made anew does not
    share with the one before; absent where the broker has none.

    Raises:
        TopicMismatchError: The number of partitions changed, or a topic was made anew.
    """
    if number >= plant.topics.partitions:
        raise TopicMismatchError(
            f"topics of {plant.prefix!r} must have {plant.topics.partitions} partitions, as the "
            f"plant file says and the checkpoints are made for, but the broker now gives partition "
            f"{number}: somebody added partitions. {_begin_anew(plant)}"
        )
    for saved_number, saved in shard_checkpoints_of(newest).items():
        if saved.num_partitions not in {None, plant.topics.partitions}:
            raise TopicMismatchError(
                f"topics of {plant.prefix!r} must have {saved.num_partitions} partitions, as when "
                f"the checkpoint of partition {saved_number} was written, they have "
                f"{plant.topics.partitions}: keys lie in other partitions now. {_begin_anew(plant)}"
            )
        for topic, topic_id in saved.topic_ids.items():
            if topic_ids.get(topic, topic_id) != topic_id:
                raise TopicMismatchError(
                    f"topic {topic!r} must be the one whose offsets the checkpoint of partition "
                    f"{saved_number} holds ({topic_id}), but it was deleted and made anew "
                    f"({topic_ids[topic]}): its offsets begin at 0 again. {_begin_anew(plant)}"
                )


def require_onward(
    plant: Plant, part: TopicPartition, offset: int, *, expected_offset: int
) -> None:
    """Return when ``offset`` is not below the one that is to come next in ``part``.

    Raises:
        TopicMismatchError: The topic was made anew, or has lost its end.
    """
    if offset < expected_offset:
        raise TopicMismatchError(
            f"partition {part.partition} of {part.topic!r} must go on at offset {expected_offset} "
            f"or later, got {offset}: the topic was deleted and made anew while it was read, or "
            f"its broker has lost its end. {_begin_anew(plant)}"
        )


def _begin_anew(plant: Plant) -> str:
    return (
        f"To begin anew, stop every process of the plant, save what you need (fusion ingest), and "
        f"delete all topics of {plant.prefix!r}, {plant.topic('checkpoints')!r} among them, and "
        f"its consumer group 'live-{plant.prefix}'; or take another prefix in the plant file"
    )
