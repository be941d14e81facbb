"""Creates the topics of a plant."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from connectors.kafka_io.connection import KafkaSettings, unavailable
from fusion.schema import MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be."""

    partitions: int
    is_compacted: bool = False


def present_topics(settings: KafkaSettings) -> set[str]:
    """Return the names of all topics of the cluster."""
    with unavailable(settings):
        admin: Any = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        with contextlib.closing(admin):
            return set(admin.list_topics())


def ensure_topics(settings: KafkaSettings, specs: Mapping[str, TopicSpec]) -> None:
    """Create the topics of ``specs`` that are not there; those that are stay as they are."""
    with unavailable(settings):
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
