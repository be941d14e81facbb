"""Three nodes: one may die while a plant is watched, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest
from kafka.admin import KafkaAdminClient

from connectors.kafka_io import (
    KafkaPublisher,
    KafkaSettings,
    KafkaSource,
    apply_topics,
    describe_topics,
)
from fusion.errors import BrokerUnavailableError
from fusion.plant import TopicSpec
from fusion.schema import Message, Record, TopicPartition
from tests.conftest import KafkaCluster

# kafka-python leaves a socket to the garbage collector whenever a node refuses the connection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

KEYS = [f"asset-{n}" for n in range(6)]
NUM_BEFORE = 20
NUM_AFTER = 20
NUM_TRIES = 10


class Writer:
    """Publishes numbers in transactions; opened anew it goes on after the last whole one."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self.next_number = 0

    def publish_until(self, end: int) -> None:
        """Publish every number below ``end``, across times when no node answers."""
        for _ in range(NUM_TRIES):
            with contextlib.suppress(BrokerUnavailableError):
                self._try_until(end)
                return
        pytest.fail(f"the cluster did not answer {NUM_TRIES} times; {self.next_number} < {end}")

    def _try_until(self, end: int) -> None:
        with contextlib.ExitStack() as stack:
            publisher = KafkaPublisher(
                self._settings, group=self._topic, transactional_id=f"tx-{self._topic}"
            )
            stack.callback(publisher.close)
            source = KafkaSource(self._settings, [self._topic], self._topic)
            stack.callback(source.close)
            part = TopicPartition(self._topic, 0)
            self.next_number = source.committed().get(part, 0)
            while self.next_number < end:
                publisher.publish(
                    [Message(self._topic, key, str(self.next_number).encode()) for key in KEYS],
                    commit={part: self.next_number + 1},
                )
                self.next_number += 1


def read_all(settings: KafkaSettings, topic: str, count: int) -> list[Record]:
    """Return the records of ``topic``: the end of a transaction reaches it a moment later."""
    records: list[Record] = []
    with contextlib.closing(KafkaSource(settings, [topic], f"{topic}-all")) as source:
        for _ in range(60):
            records += source.poll(timeout_s=0.5)
            if len(records) >= count:
                break
        return records + source.poll(timeout_s=0.5)


def coordinator(settings: KafkaSettings) -> int:
    """Return the node that keeps the account of all transactions: its topic has one partition."""
    with contextlib.closing(KafkaAdminClient(**settings.client_options())) as admin:
        (topic,) = admin.describe_topics(["__transaction_state"])
        return topic["partitions"][0]["leader_id"]


@pytest.mark.parametrize("is_coordinator", [True, False], ids=["coordinator", "other"])
def test_a_transactional_publisher_goes_on_while_a_node_dies_and_comes_back(
    kafka_cluster: KafkaCluster, unique: str, is_coordinator: bool
) -> None:
    settings = KafkaSettings(kafka_cluster.bootstrap, replication=3)
    apply_topics(settings, {unique: TopicSpec(3, retention_ms=3_600_000)}, update_configs=False)
    writer = Writer(settings, unique)
    writer.publish_until(NUM_BEFORE)
    node = coordinator(settings)
    if not is_coordinator:
        node = node % 3 + 1
    # In the middle of transactions, wherever it falls.
    killer = threading.Thread(target=kafka_cluster.kill, args=(node,))
    killer.start()
    while killer.is_alive():
        writer.publish_until(writer.next_number + 1)
    try:
        writer.publish_until(writer.next_number + NUM_AFTER)
        records = read_all(settings, unique, writer.next_number * len(KEYS))
        for key in KEYS:
            told = [int(record.value) for record in records if record.key == key]
            assert told == list(range(writer.next_number))
        assert unique in describe_topics(settings, [unique])
    finally:
        kafka_cluster.start(node)
        gc.collect()
