"""Reads records of committed transactions: all partitions of its topics, or its share of a group.

A reader without a ``Membership`` has every partition. A member of a group has the numbers that the
group gives it (see :mod:`connectors.kafka_io.assignor`), and keeps them over a quick restart when
it has an instance id (static membership, KIP-345).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kafka
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition as KafkaPartition

from connectors.kafka_io.assignor import CoPartitionedAssignor
from connectors.kafka_io.batches import read_every_batch
from connectors.kafka_io.connection import KafkaSettings, unavailable
from connectors.kafka_io.following import Following
from connectors.kafka_io.leaders import no_answer
from connectors.kafka_io.opening import opened
from connectors.kafka_io.rejoin import end_every_join, end_when_taken_over
from fusion.errors import BrokerUnavailableError, InputError, TopicMismatchError
from fusion.plant import MAX_MESSAGE_BYTES
from fusion.schema import Lost, Record, TopicPartition, WireForm

MAX_POLL_RECORDS = 500
LONGEST_WAIT_S = 0.02
"""How late a record may be noticed, see :meth:`KafkaSource._poll`."""
FETCH_MAX_WAIT_S = 0.1
"""How long the broker keeps a question for records; any other question waits behind it."""
MAX_FETCH_BYTES = 16 * 1024 * 1024
HEARTBEATS_PER_SESSION = 6
METADATA_MAX_AGE_S = 10.0
"""How soon a topic that was made anew, or that got more partitions, is noticed."""
ANSWER_TIMEOUT_S = 30.0
"""How long the leader of a partition may take to say where its log begins or ends."""


@dataclass(frozen=True, slots=True)
class Membership:
    """How a reader takes part in its group."""

    instance_id: str | None
    """Equal after a restart: the partitions wait for it. None: they move at once when it leaves."""
    session_timeout_s: float
    """After this long without a sign of life the partitions of a member go to others."""
    max_poll_interval_s: float = 300.0


class KafkaSource:
    """Implements :class:`fusion.ports.Source` on Apache Kafka."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group: str,
        membership: Membership | None = None,
    ) -> None:
        self._settings = settings
        with unavailable(settings):
            self._consumer: Any = opened(
                kafka.KafkaConsumer,
                settings,
                group_id=group,
                enable_auto_commit=False,
                # Else it would skip what was deleted, and say nothing.
                auto_offset_reset="none",  # pyright: ignore[reportArgumentType] the stubs lack it
                isolation_level="read_committed",
                # Reading must not make topics, with whatever the broker takes for right.
                allow_auto_create_topics=False,
                max_poll_records=MAX_POLL_RECORDS,
                fetch_max_wait_ms=round(FETCH_MAX_WAIT_S * 1000),
                fetch_max_bytes=MAX_FETCH_BYTES,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
                metadata_max_age_ms=round(METADATA_MAX_AGE_S * 1000),
                **_membership_options(membership),
            )
            read_every_batch(self._consumer)
            self._following = Following(self._consumer)
            self._assignment = _Assignment()
            self._num_partitions: dict[str, int] = {}
            try:
                self._begin(topics, is_member=membership is not None)
            except BaseException:
                self._consumer.close(autocommit=False)
                raise

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records of committed transactions, at most one fetch."""
        with unavailable(self._settings):
            fetched = self._poll(timeout_s)
            # What the client last heard of the cluster; there is no other way to it.
            self._assignment.compare(self._consumer._client.cluster.topic_id)  # noqa: SLF001
        return [_to_record(each) for batch in fetched.values() for each in batch]

    def assigned(self) -> dict[TopicPartition, int]:
        """Return the partitions that are read now, and when (counted) each was assigned."""
        return dict(self._assignment.stamps)

    def has_joined(self) -> bool:
        """Return whether the group has given this member its partitions, though they be none."""
        return self._assignment.has_joined

    def keep_alive(self) -> None:
        """Poll with everything paused: the group sees a living member, and nothing is read."""
        with unavailable(self._settings):
            held = set(self._consumer.paused())
            others = set(self._consumer.assignment()) - held
            self._consumer.pause(*others)
            self._ask_for_records(0)
            self._consumer.resume(*(others & set(self._consumer.assignment())))

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Pause ``partitions`` and resume all others."""
        assigned = set(self._consumer.assignment())
        wanted = {KafkaPartition(*part) for part in partitions} & assigned
        paused = set(self._consumer.paused()) & assigned
        self._consumer.pause(*(wanted - paused))
        self._consumer.resume(*(paused - wanted))

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset at which ``poll`` goes on, per assigned partition."""
        with unavailable(self._settings):
            return {part: self._position(KafkaPartition(*part)) for part in self.assigned()}

    def committed(
        self, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """Return what the group has committed of ``partitions``, or of the assigned ones."""
        wanted = self.assigned() if partitions is None else partitions
        with unavailable(self._settings):
            found = {part: self._consumer.committed(KafkaPartition(*part)) for part in wanted}
        return {part: offset for part, offset in found.items() if offset is not None}

    def start_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the oldest record that is kept, per assigned partition."""
        return self._bounds(self._consumer.beginning_offsets)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the end of what is committed, per assigned partition, markers included.

        Raises:
            TopicMismatchError: Somebody has added partitions: a group would give them to nobody.
        """
        for topic, num_partitions in self._num_partitions.items():
            # What the client last heard of the cluster.
            now = self._consumer.partitions_for_topic(topic) or ()
            if len(now) > num_partitions:
                raise TopicMismatchError(
                    f"topic {topic!r} must keep its {num_partitions} partitions while it is read, "
                    f"but has {len(now)} now: what lies in the new ones is read by nobody, and "
                    "keys lie elsewhere than before; make the topics anew with that number"
                )
        return self._bounds(self._consumer.end_offsets)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``."""
        for part, offset in positions.items():
            self._consumer.seek(KafkaPartition(*part), offset)
        self._following.forget(positions)

    def take_lost(self) -> list[Lost]:
        """Return what retention had deleted before it was read, since the last call."""
        return self._following.take_lost()

    def _poll(self, timeout_s: float) -> dict[Any, list[Any]]:
        """Wait in short turns: kafka-python 3.0.12 may sleep on while it has records.

        Its own thread gets the broker's answer; when that comes between the look at what is at hand
        and the wait, the wait is for the answer after it.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            self._let_parked_records_go_on()
            left_s = max(0.0, end_s - time.monotonic())
            turn_ms = math.ceil(1000 * min(left_s, LONGEST_WAIT_S))
            fetched = self._ask_for_records(turn_ms)
            if fetched or left_s <= LONGEST_WAIT_S:
                return fetched

    def _begin(self, topics: Sequence[str], *, is_member: bool) -> None:
        partitions = {topic: _partitions(self._consumer, topic) for topic in topics}
        if is_member:
            _require_equal_counts(partitions)
            self._num_partitions = {topic: len(numbers) for topic, numbers in partitions.items()}
            end_every_join(self._consumer)
            end_when_taken_over(self._consumer)
            self._consumer.subscribe(topics=list(topics), listener=self._assignment)
            return
        everything = [KafkaPartition(t, n) for t, numbers in partitions.items() for n in numbers]
        self._consumer.assign(everything)
        self._assignment.on_partitions_assigned(everything)

    def _ask_for_records(self, timeout_ms: int) -> dict[Any, list[Any]]:
        return self._following.ask(lambda: self._consumer.poll(timeout_ms=timeout_ms))

    def _position(self, part: Any) -> int:
        timeout_ms = round(ANSWER_TIMEOUT_S * 1000)
        position: int | None = self._following.ask(
            lambda: self._consumer.position(part, timeout_ms=timeout_ms)
        )
        if position is None:
            asked = [TopicPartition(part.topic, part.partition)]
            raise no_answer(self._settings, asked, timeout_s=ANSWER_TIMEOUT_S)
        return position

    def _bounds(self, ask: Callable[[list[Any], int], dict[Any, int]]) -> dict[TopicPartition, int]:
        assigned = list(self.assigned())
        if not assigned:
            return {}
        with unavailable(self._settings):
            try:
                wanted = [KafkaPartition(*part) for part in assigned]
                bounds = ask(wanted, round(ANSWER_TIMEOUT_S * 1000))
            except KafkaTimeoutError as late:
                raise no_answer(self._settings, assigned, timeout_s=ANSWER_TIMEOUT_S) from late
        return {TopicPartition(part.topic, part.partition): at for part, at in bounds.items()}

    def _let_parked_records_go_on(self) -> None:
        """Mend a stall of kafka-python 3.0.12 after a pause.

        Parsed records of a partition that was paused and resumed go on only when no other parsed
        records are at hand, and used-up ones count as at hand: the partition then stands still for
        ever. The contract suite (hold and release) shows whether this is still needed.
        """
        fetcher = self._consumer._fetcher  # noqa: SLF001 there is no other way to it
        if not fetcher._next_partition_records:  # noqa: SLF001
            fetcher._next_partition_records = None  # noqa: SLF001

    def close(self) -> None:
        """Leave, unless an instance id keeps the place in the group. Commits nothing."""
        self._consumer.close(autocommit=False)


class _Assignment(kafka.ConsumerRebalanceListener):
    """What the group has given to this member. Called by the library while it polls."""

    def __init__(self) -> None:
        self.stamps: dict[TopicPartition, int] = {}
        self.has_joined = False
        self._count = 0
        self._topic_ids: dict[str, Any] = {}

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._count += 1
        self.has_joined = True
        self.stamps |= {TopicPartition(p.topic, p.partition): self._count for p in assigned}

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        gone = {TopicPartition(p.topic, p.partition) for p in revoked}
        self.stamps = {part: stamp for part, stamp in self.stamps.items() if part not in gone}

    def compare(self, topic_id: Callable[[str], Any]) -> None:
        """Stamp the partitions of a topic that was made anew as if they had gone and come back.

        ``topic_id`` is what the cluster calls a topic; None while it does not say.
        """
        for topic in {part.topic for part in self.stamps}:
            now = topic_id(topic)
            if now is None or now == self._topic_ids.setdefault(topic, now):
                continue
            self._topic_ids[topic] = now
            self.on_partitions_assigned([part for part in self.stamps if part.topic == topic])

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self.has_joined = False
        self.on_partitions_revoked(lost)


def _membership_options(membership: Membership | None) -> dict[str, Any]:
    if membership is None:
        return {}
    session_ms = round(membership.session_timeout_s * 1000)
    return {
        "partition_assignment_strategy": [CoPartitionedAssignor],
        "group_instance_id": membership.instance_id,
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": session_ms // HEARTBEATS_PER_SESSION,
        "max_poll_interval_ms": round(membership.max_poll_interval_s * 1000),
    }


def _partitions(consumer: Any, topic: str) -> list[int]:
    partitions: set[int] | None = consumer.partitions_for_topic(topic)
    if not partitions:
        raise BrokerUnavailableError(
            f"topic {topic!r} must exist to be read; create the plant's topics first "
            "(every fusion command does), or check the prefix in the plant file"
        )
    return sorted(partitions)


def _require_equal_counts(partitions: Mapping[str, Sequence[int]]) -> None:
    if len({len(numbers) for numbers in partitions.values()}) > 1:
        counts = {topic: len(numbers) for topic, numbers in partitions.items()}
        raise InputError(
            "topics that are read together must have the same number of partitions, so that one "
            f"process gets everything of an asset; got {counts}; make them anew with equal numbers"
        )


def _to_record(fetched: Any) -> Record:
    # Bytes that are no text survive: a dead letter can be sent again as it came.
    pairs = [(name, (raw or b"").decode(errors="surrogateescape")) for name, raw in fetched.headers]
    headers = dict(pairs)
    is_key_null, is_value_null = fetched.key is None, fetched.value is None
    is_plain = len(headers) == len(pairs) and not is_key_null and not is_value_null
    return Record(
        topic=fetched.topic,
        partition=fetched.partition,
        offset=fetched.offset,
        key=(fetched.key or b"").decode(errors="surrogateescape"),
        value=fetched.value or b"",
        headers=headers,
        t_broker_ns=fetched.timestamp * 1_000_000,
        form=None if is_plain else WireForm(tuple(pairs), is_key_null, is_value_null),
    )
