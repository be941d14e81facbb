"""What a restarted live process needs to go on as if nothing had happened.

JSON records on the compacted topic ``checkpoints``, one per partition number, two per plant,
each in the partition of its number, published in the same transaction as the scores and alarms that
they account for and as the committed offsets. The raw records of the open window are not in them:
they are read again from the committed offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusion.alignment import Counts
from fusion.alignment.ledger import from_key, to_key
from fusion.plant import Plant
from fusion.schema import Message, Record, TopicPartition

_HEADERS = {"content-type": "application/json"}
_SHARD_KEY, _SCORER_KEY = "partition:", "scorer:"
_Kept = TypeVar("_Kept", bound=BaseModel)


class Checkpoint(BaseModel):
    """The state of the chain of one plant at one commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant_fingerprint: str
    model_version: str
    partition: int
    delivered_tick: int
    """The newest tick whose score was published; older ticks only rebuild the window."""
    accounts: dict[str, dict[str, int]]
    """What became of every record of this plant that was read, by partition: for people to see."""
    intake: dict[str, Any]
    alarms: dict[str, Any]

    def message(self, plant: Plant) -> Message:
        """Return the message that keeps it (compacted: the newest one counts)."""
        return _message(plant, str(plant.address), self, self.partition)


class ScorerCheckpoint(BaseModel):
    """The running averages of one plant's score: large, and only new after a scored tick."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: str
    tick: int
    """The tick that was scored last."""
    scorer: dict[str, Any]

    def message(self, plant: Plant, number: int) -> Message:
        """Return the message that keeps it, under a key that no address can have."""
        return _message(plant, scorer_key(plant), self, number)


class ShardCheckpoint(BaseModel):
    """What is known of one partition number beside its plants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: dict[str, int] = Field(default_factory=dict[str, int])
    """Every record below was answered, by partition."""
    refused: dict[str, int] = Field(default_factory=dict[str, int])
    """Dead letters of records that belong to no plant, by partition."""
    num_partitions: int | None = None
    """Of each topic; None in what older versions wrote."""
    topic_ids: dict[str, str] = Field(default_factory=dict[str, str])
    """The broker's own names of the topics that were read, where it has some."""
    lost: dict[str, tuple[int, int, int]] = Field(default_factory=dict[str, tuple[int, int, int]])
    """Offsets that were deleted unread, by partition: how many, and where the last ones lay."""

    @classmethod
    def of(
        cls,
        read_up_to: Mapping[TopicPartition, int],
        strangers: Mapping[TopicPartition, Counts],
        lost: Mapping[TopicPartition, tuple[int, int, int]] | None = None,
        *,
        num_partitions: int | None = None,
        topic_ids: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the checkpoint that gives each of these back."""
        return cls(
            read={to_key(part): offset for part, offset in read_up_to.items()},
            refused={to_key(part): counts.dead_lettered for part, counts in strangers.items()},
            lost={to_key(part): each for part, each in (lost or {}).items()},
            num_partitions=num_partitions,
            topic_ids=dict(topic_ids or {}),
        )

    def read_up_to(self) -> dict[TopicPartition, int]:
        """Return the offset below which every record was answered, per partition."""
        return {from_key(key): offset for key, offset in self.read.items()}

    def strangers(self) -> dict[TopicPartition, Counts]:
        """Return what became of the records that belong to no plant."""
        return {from_key(key): Counts(dead_lettered=n) for key, n in self.refused.items()}

    def lost_offsets(self) -> dict[TopicPartition, tuple[int, int, int]]:
        """Return, per partition, how many offsets were lost, and start and stop of the last."""
        return {from_key(key): each for key, each in self.lost.items()}

    def message(self, plant: Plant, number: int) -> Message:
        """Return the message that keeps it, under a key that no address can have."""
        return _message(plant, shard_key(number), self, number)


def _message(plant: Plant, key: str, saved: BaseModel, number: int) -> Message:
    # Beside the records that it answers for: nobody else writes there, see fusion.plant.topics.
    value = saved.model_dump_json().encode()
    return Message(plant.topic("checkpoints"), key, value, _HEADERS, partition=number)


def shard_key(number: int) -> str:
    """Return the key of a partition number's checkpoint.

    Example:
        >>> shard_key(3)
        'partition:3'
    """
    return f"{_SHARD_KEY}{number}"


def scorer_key(plant: Plant) -> str:
    """Return the key of the checkpoint of a plant's score."""
    return f"{_SCORER_KEY}{plant.address}"


def newest_by_key(records: Iterable[Record]) -> dict[str, bytes]:
    """Return the last value of every key among the ``records`` of a compacted topic.

    Inside a partition that is the one with the highest offset, whatever the clocks said; of several
    partitions that hold a key, in which order they are read says nothing: the newest one counts.
    """
    last = {(record.key, record.partition): record for record in records}
    in_order = sorted(last.values(), key=lambda record: record.t_broker_ns)
    return {record.key: record.value for record in in_order}


def checkpoint_of(plant: Plant, newest: Mapping[str, bytes]) -> Checkpoint | None:
    """Return the last checkpoint of ``plant``, None without one.

    A checkpoint of a plant description that has changed since, or of another release of this
    program, is not used: the live process then starts at the committed offsets with fresh
    statistics. A plant that is watched anew is better than one that is not.
    """
    checkpoint = _readable(Checkpoint, newest.get(str(plant.address)))
    if checkpoint is None or checkpoint.plant_fingerprint != plant.fingerprint():
        return None
    return checkpoint


def alarms_of(plant: Plant, newest: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what the last checkpoint says of the alarms; empty without one of this release.

    Also of a plant whose description has changed since: what people did to alarms goes on.
    """
    checkpoint = _readable(Checkpoint, newest.get(str(plant.address)))
    return {} if checkpoint is None else checkpoint.alarms


def shard_checkpoint_of(number: int, newest: Mapping[str, bytes]) -> ShardCheckpoint | None:
    """Return the last checkpoint of a partition number, None without one of this release."""
    return _readable(ShardCheckpoint, newest.get(shard_key(number)))


def shard_checkpoints_of(newest: Mapping[str, bytes]) -> dict[int, ShardCheckpoint]:
    """Return the last checkpoint of every partition number that has one of this release."""
    numbers = (key.removeprefix(_SHARD_KEY) for key in newest if key.startswith(_SHARD_KEY))
    found = {int(number): shard_checkpoint_of(int(number), newest) for number in numbers}
    return {number: saved for number, saved in found.items() if saved is not None}


def homes_of(newest: Mapping[str, bytes]) -> dict[str, int]:
    """Return the partition number of every plant that has a checkpoint.

    Also of a plant whose description has changed since: its records come where they came.
    """
    found = {
        key: _readable(Checkpoint, value)
        for key, value in newest.items()
        if not key.startswith((_SHARD_KEY, _SCORER_KEY))
    }
    return {address: saved.partition for address, saved in found.items() if saved is not None}


def scorer_of(
    plant: Plant, checkpoint: Checkpoint, newest: Mapping[str, bytes]
) -> ScorerCheckpoint | None:
    """Return the state of the score at ``checkpoint``; None before the first scored tick.

    None for another model version too: its averages mean something else.
    """
    found = _readable(ScorerCheckpoint, newest.get(scorer_key(plant)))
    wanted = (checkpoint.model_version, checkpoint.delivered_tick)
    return found if found is not None and (found.model_version, found.tick) == wanted else None


def _readable(kind: type[_Kept], value: bytes | None) -> _Kept | None:
    if value is None:
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        return None
