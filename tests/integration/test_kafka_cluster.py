"""Three nodes: one may die while a plant is watched, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import threading

import pytest

from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource, apply_topics
from fusion.plant import TopicSpec
from fusion.schema import Message, Record, TopicPartition
from tests.conftest import KafkaCluster

NUM_TRANSACTIONS = 120


@pytest.mark.parametrize("node", [1, 2])
def test_a_transactional_publisher_goes_on_while_a_node_dies_and_comes_back(
    kafka_cluster: KafkaCluster, unique: str, node: int
) -> None:
    settings = KafkaSettings(kafka_cluster.bootstrap, replication=3)
    apply_topics(settings, {unique: TopicSpec(3, retention_ms=3_600_000)}, update_configs=False)
    keys = [f"asset-{n}" for n in range(6)]
    killed = threading.Event()

    def kill() -> None:
        kafka_cluster.kill(node)
        killed.set()

    with contextlib.closing(
        KafkaPublisher(settings, group=unique, transactional_id=f"tx-{unique}")
    ) as publisher:
        killer = threading.Thread(target=kill)
        number = 0
        while number < NUM_TRANSACTIONS or not killed.is_set():
            publisher.publish(
                [Message(unique, key, str(number).encode()) for key in keys],
                commit={TopicPartition(unique, 0): number},
            )
            number += 1
            if number == NUM_TRANSACTIONS // 4:
                killer.start()
        killer.join()
        for _ in range(10):
            publisher.publish([Message(unique, key, str(number).encode()) for key in keys])
            number += 1
    try:
        with contextlib.closing(KafkaSource(settings, [unique], f"{unique}-all")) as source:
            # The end of a transaction reaches its partitions a moment after the publisher knows.
            records = list[Record]()
            for _ in range(60):
                records += source.poll(timeout_s=0.5)
                if len(records) >= number * len(keys):
                    break
            records += source.poll(timeout_s=0.5)
        for key in keys:
            told = [int(record.value) for record in records if record.key == key]
            assert told == list(range(number))
    finally:
        kafka_cluster.start(node)
