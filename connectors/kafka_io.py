"""Apache Kafka through kafka-python: a source, a publisher with transactions, topic creation.

Offsets of a Kafka partition have holes: every transaction leaves a marker of its own. Positions
still only grow, and accounts count records, not offsets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kafka
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, ProducerFencedError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata
from kafka.structs import TopicPartition as KafkaPartition

from fusion.errors import BrokerUnavailableError, FusionError
from fusion.schema import MAX_RECORD_BYTES, Message, Record, TopicPartition

MAX_POLL_RECORDS = 500
MAX_FETCH_BYTES = 16 * 1024 * 1024
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""kafka-python's producer has no bound of its own; publish waits for acknowledgements beyond it."""
REQUEST_TIMEOUT_S = 30.0
METADATA_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the cluster."""

    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be."""

    partitions: int
    is_compacted: bool = False


class FencedError(FusionError):
    """Another process took over as the writer of this group; this one must stop."""


class KafkaSource:
    """Implements :class:`fusion.ports.Source` on Apache Kafka.

    It reads all partitions of its topics (one replica); a group's offsets are stored on the broker.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], group: str) -> None:
        with _unavailable(settings):
            self._consumer: Any = kafka.KafkaConsumer(
                bootstrap_servers=settings.bootstrap_servers,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                max_poll_records=MAX_POLL_RECORDS,
                fetch_max_bytes=MAX_FETCH_BYTES,
                max_partition_fetch_bytes=MAX_RECORD_BYTES + 64 * 1024,
            )
            self._settings = settings
            self._partitions = [
                KafkaPartition(topic, number)
                for topic in topics
                for number in sorted(_require_partitions(self._consumer, topic))
            ]
            self._consumer.assign(self._partitions)

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records of committed transactions, at most one fetch."""
        with _unavailable(self._settings):
            fetched: dict[Any, list[Any]] = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        return [_to_record(each) for batch in fetched.values() for each in batch]

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset at which ``poll`` goes on, per partition."""
        with _unavailable(self._settings):
            return {
                TopicPartition(part.topic, part.partition): self._consumer.position(part)
                for part in self._partitions
            }

    def committed(self) -> dict[TopicPartition, int]:
        """Return what the group has committed of these topics."""
        with _unavailable(self._settings):
            found = {part: self._consumer.committed(part) for part in self._partitions}
        return {
            TopicPartition(part.topic, part.partition): offset
            for part, offset in found.items()
            if offset is not None
        }

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the end of what is committed, per partition, markers included."""
        with _unavailable(self._settings):
            ends = self._consumer.end_offsets(self._partitions)
        return {TopicPartition(part.topic, part.partition): end for part, end in ends.items()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``."""
        for part, offset in positions.items():
            self._consumer.seek(KafkaPartition(*part), offset)

    def close(self) -> None:
        """Close the connection. Commits nothing."""
        self._consumer.close(autocommit=False)


class KafkaPublisher:
    """Implements :class:`fusion.ports.Publisher` on Apache Kafka.

    With a ``transactional_id`` every call of :meth:`publish` is one transaction, and opening a
    second publisher of the same id shuts out the first and undoes what it had begun.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str | None = None,
        transactional_id: str | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._is_transactional = transactional_id is not None
        with _unavailable(settings):
            self._producer: Any = kafka.KafkaProducer(
                bootstrap_servers=settings.bootstrap_servers,
                acks="all",
                # Must be said: kafka-python silently switches it off otherwise.
                enable_idempotence=True,
                transactional_id=transactional_id,
                compression_type="zstd",
                linger_ms=5,
                max_request_size=MAX_RECORD_BYTES + 64 * 1024,
                request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
            )
            if self._is_transactional:
                self._producer.init_transactions()

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store ``messages``; in a transaction, with the group's ``commit`` or not at all."""
        if commit is not None and (self._group is None or not self._is_transactional):
            raise ValueError(
                "positions can be committed only in a transaction of a group; "
                "open the publisher with group=... and transactional_id=..."
            )
        with _unavailable(self._settings):
            if not self._is_transactional:
                self._send(messages)
                return
            self._producer.begin_transaction()
            try:
                self._send(messages)
                if commit:
                    self._producer.send_offsets_to_transaction(_to_offsets(commit), self._group)
                self._producer.commit_transaction()
            except ProducerFencedError:
                raise
            except BaseException:
                self._producer.abort_transaction()
                raise

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()

    def _send(self, messages: Sequence[Message]) -> None:
        waiting: list[Any] = []
        num_bytes = 0
        for message in messages:
            if num_bytes > MAX_IN_FLIGHT_BYTES:
                _await_all(waiting)
                waiting, num_bytes = [], 0
            waiting.append(
                self._producer.send(
                    message.topic,
                    key=message.key.encode(),
                    value=message.value,
                    headers=[(name, text.encode()) for name, text in message.headers.items()],
                )
            )
            num_bytes += len(message.value)
        self._producer.flush(REQUEST_TIMEOUT_S)
        _await_all(waiting)


def ensure_topics(settings: KafkaSettings, specs: Mapping[str, TopicSpec]) -> None:
    """Create the topics of ``specs`` that are not there; those that are stay as they are."""
    with _unavailable(settings):
        admin: Any = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        with contextlib.closing(admin):
            there = set(admin.list_topics())
            new = [
                NewTopic(
                    topic,
                    num_partitions=spec.partitions,
                    replication_factor=-1,
                    topic_configs={
                        "cleanup.policy": "compact" if spec.is_compacted else "delete",
                        "max.message.bytes": str(MAX_RECORD_BYTES + 64 * 1024),
                    },
                )
                for topic, spec in specs.items()
                if topic not in there
            ]
            if new:
                # Another process may have created them since.
                with contextlib.suppress(TopicAlreadyExistsError):
                    admin.create_topics(new)


def _require_partitions(consumer: Any, topic: str) -> set[int]:
    partitions: set[int] | None = consumer.partitions_for_topic(topic)
    if not partitions:
        raise BrokerUnavailableError(
            f"topic {topic!r} must exist to be read; create the plant's topics first "
            "(every fusion command does), or check the prefix in the plant file"
        )
    return partitions


def _to_record(fetched: Any) -> Record:
    return Record(
        topic=fetched.topic,
        partition=fetched.partition,
        offset=fetched.offset,
        key=(fetched.key or b"").decode(errors="replace"),
        value=fetched.value or b"",
        headers={name: (raw or b"").decode(errors="replace") for name, raw in fetched.headers},
        t_broker_ns=fetched.timestamp * 1_000_000,
    )


def _to_offsets(commit: Mapping[TopicPartition, int]) -> dict[Any, OffsetAndMetadata]:
    return {
        KafkaPartition(*part): OffsetAndMetadata(offset, "", -1) for part, offset in commit.items()
    }


def _await_all(futures: Sequence[Any]) -> None:
    for future in futures:
        future.get(timeout=REQUEST_TIMEOUT_S)


@contextlib.contextmanager
def _unavailable(settings: KafkaSettings) -> Iterator[None]:
    try:
        yield
    except ProducerFencedError as fenced:
        raise FencedError(
            "only one process may write for a plant, and a newer one has taken over; "
            "stop this one, or give it another plant"
        ) from fenced
    except KafkaError as failed:
        raise BrokerUnavailableError(
            f"the broker at {settings.bootstrap_servers} must answer, but: "
            f"{type(failed).__name__}: {failed}; check that it runs and FUSION_KAFKA_BOOTSTRAP"
        ) from failed
