"""What is said when a partition's leader is away, or a transaction took too long."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource, apply_topics
from connectors.kafka_io import publisher as publishing
from connectors.kafka_io import source as reading
from fusion.errors import BrokerUnavailableError
from fusion.plant import TopicSpec
from fusion.schema import Message, TopicPartition
from fusion.stream.reading import read_to_end
from tests.conftest import KafkaCluster

# kafka-python leaves a socket to the garbage collector whenever a node refuses the connection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


class Slow(list[Message]):
    """Messages of which the second is ready when the broker has given up the transaction."""

    def __init__(self, messages: list[Message], settings: KafkaSettings, name: str) -> None:
        super().__init__(messages)
        self._settings = settings
        self._name = name

    def __iter__(self) -> Iterator[Message]:
        first, *others = super().__iter__()
        yield first
        with contextlib.closing(KafkaAdminClient(**self._settings.client_options())) as admin:
            while (state := self._state(admin)) in {"Empty", "Ongoing", "PrepareAbort"}:
                assert state
        yield from others

    def _state(self, admin: Any) -> str:
        found = admin.describe_transactions([self._name])[self._name]
        return str(getattr(found.state, "value", found.state))


def test_a_transaction_that_took_too_long_is_no_other_process(
    kafka_bootstrap: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "TRANSACTION_TIMEOUT_S", 1.0)
    settings = KafkaSettings(kafka_bootstrap)
    apply_topics(settings, {unique: TopicSpec(1)}, update_configs=False)
    messages = [Message(unique, "k", b"1"), Message(unique, "k", b"2")]
    part = TopicPartition(unique, 0)
    publisher = KafkaPublisher(settings, group=unique, transactional_id=unique)
    with contextlib.closing(publisher), pytest.raises(BrokerUnavailableError) as said:
        publisher.publish(Slow(messages, settings, unique), commit={part: 1})
    for words in ("must end within 1 s", "given it up", "another process", "a new publisher"):
        assert words in str(said.value)
    again = KafkaPublisher(settings, group=unique, transactional_id=unique)
    with contextlib.closing(again):
        again.publish(messages, commit={part: 1})
    with contextlib.closing(KafkaSource(settings, [unique], "reads")) as source:
        assert [record.value for record in read_to_end(source)] == [b"1", b"2"]


def test_reading_to_the_end_waits_for_no_leader_for_ever(
    kafka_cluster: KafkaCluster, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANSWER_TIMEOUT_S", 3.0)
    settings = KafkaSettings(kafka_cluster.bootstrap, replication=1)
    apply_topics(settings, {unique: TopicSpec(1)}, update_configs=False)
    with contextlib.closing(KafkaPublisher(settings)) as publisher:
        publisher.publish([Message(unique, "k", b"1")])
    with contextlib.closing(KafkaAdminClient(**settings.client_options())) as admin:
        (topic,) = admin.describe_topics([unique])
    leader = topic["partitions"][0]["leader_id"]
    with contextlib.closing(KafkaSource(settings, [unique], "reads")) as source:
        records = read_to_end(source, patience_s=3)
        source.positions()
        ends = source.end_offsets()
        kafka_cluster.stop(leader)
        try:
            with pytest.raises(BrokerUnavailableError, match=rf"{unique}/0 is away.*REPLICATION"):
                list(records)
            monkeypatch.setattr(source, "end_offsets", lambda: ends)
            with pytest.raises(BrokerUnavailableError, match=rf"{unique}/0 \(at 0 of 1\).*leaders"):
                list(read_to_end(source, patience_s=3))
        finally:
            kafka_cluster.start(leader)
            gc.collect()
