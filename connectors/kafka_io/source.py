"""Reads records of committed transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import kafka
from kafka.structs import TopicPartition as KafkaPartition

from connectors.kafka_io.connection import KafkaSettings, unavailable
from fusion.errors import BrokerUnavailableError
from fusion.schema import MAX_RECORD_BYTES, Record, TopicPartition

MAX_POLL_RECORDS = 500
MAX_FETCH_BYTES = 16 * 1024 * 1024


class KafkaSource:
    """Implements :class:`fusion.ports.Source` on Apache Kafka.

    It reads all partitions of its topics (one replica); a group's offsets are stored on the broker.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], group: str) -> None:
        with unavailable(settings):
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
        with unavailable(self._settings):
            fetched: dict[Any, list[Any]] = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        return [_to_record(each) for batch in fetched.values() for each in batch]

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset at which ``poll`` goes on, per partition."""
        with unavailable(self._settings):
            return {
                TopicPartition(part.topic, part.partition): self._consumer.position(part)
                for part in self._partitions
            }

    def committed(self) -> dict[TopicPartition, int]:
        """Return what the group has committed of these topics."""
        with unavailable(self._settings):
            found = {part: self._consumer.committed(part) for part in self._partitions}
        return {
            TopicPartition(part.topic, part.partition): offset
            for part, offset in found.items()
            if offset is not None
        }

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the end of what is committed, per partition, markers included."""
        with unavailable(self._settings):
            ends = self._consumer.end_offsets(self._partitions)
        return {TopicPartition(part.topic, part.partition): end for part, end in ends.items()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``."""
        for part, offset in positions.items():
            self._consumer.seek(KafkaPartition(*part), offset)

    def close(self) -> None:
        """Close the connection. Commits nothing."""
        self._consumer.close(autocommit=False)


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
