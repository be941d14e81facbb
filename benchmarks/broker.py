"""A real Apache Kafka of its own for a measurement: free ports, a data folder that goes away."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic

from flows import wiring
from flows.settings import Settings
from fusion.schema import MAX_RECORD_BYTES, Message

ROOT = Path(__file__).parents[1]
KAFKA_SCRIPT = ROOT / "deploy" / "kafka" / "kafka.sh"
PUBLISH_MESSAGES = 500
"""In one call: enough for large batches on the broker, little enough to hold in memory."""


@contextlib.contextmanager
def own_kafka() -> Iterator[Settings]:
    """Yield the settings that reach a fresh Apache Kafka; it is stopped and deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder:
        port = _free_port()
        environment = os.environ | {
            "KAFKA_PORT": str(port),
            "KAFKA_CONTROLLER_PORT": str(_free_port()),
            "KAFKA_DATA": f"{folder}/kafka",
        }
        subprocess.run([KAFKA_SCRIPT, "start"], env=environment, check=True, timeout=300)
        try:
            yield Settings(
                broker="kafka", kafka_bootstrap=f"127.0.0.1:{port}", data_dir=Path(folder) / "data"
            )
        finally:
            subprocess.run([KAFKA_SCRIPT, "stop"], env=environment, check=True, timeout=60)


def create_topics(settings: Settings, topics: Iterable[str], *, broker_time: bool = False) -> None:
    """Create ``topics`` with one partition; with ``broker_time`` the broker stamps each record."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    with contextlib.closing(admin):
        configs = {
            "max.message.bytes": str(MAX_RECORD_BYTES + 64 * 1024),
            "message.timestamp.type": "LogAppendTime" if broker_time else "CreateTime",
        }
        admin.create_topics(
            [
                NewTopic(topic, num_partitions=1, replication_factor=1, topic_configs=configs)
                for topic in topics
            ]
        )


def publish(settings: Settings, messages: Iterable[Message]) -> int:
    """Store ``messages`` as the product's senders do, and return how many bytes they hold."""
    num_bytes = 0
    remaining = iter(messages)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        while batch := list(islice(remaining, PUBLISH_MESSAGES)):
            publisher.publish(batch)
            num_bytes += sum(len(message.value) for message in batch)
    return num_bytes


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
