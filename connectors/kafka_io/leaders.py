"""Names the partitions for which no broker answers."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

from kafka.admin import KafkaAdminClient

from connectors.kafka_io.connection import unavailable
from connectors.kafka_io.opening import opened
from connectors.kafka_io.settings import KafkaSettings
from fusion.errors import BrokerUnavailableError
from fusion.schema import TopicPartition


def no_answer(
    settings: KafkaSettings, partitions: Collection[TopicPartition], *, timeout_s: float
) -> BrokerUnavailableError:
    """Return what to say when the leaders of ``partitions`` did not answer in ``timeout_s``.

    Raises:
        BrokerUnavailableError: No broker answers at all.
    """
    with unavailable(settings):
        admin: Any = opened(KafkaAdminClient, settings)
        with contextlib.closing(admin):
            found = admin.describe_topics(sorted({part.topic for part in partitions}))
    leaders = {
        TopicPartition(topic["name"], part["partition_index"]): part["leader_id"]
        for topic in found
        for part in topic["partitions"]
    }
    away = [part for part in sorted(partitions) if leaders.get(part, -1) < 0]
    named = ", ".join(f"{part.topic}/{part.partition}" for part in away or sorted(partitions))
    return BrokerUnavailableError(
        f"the leader of every partition must answer within {timeout_s:g} s, but that of {named} "
        f"{'is away' if away else 'did not'}; start its broker again, or give the topic more "
        "replicas (FUSION_KAFKA_REPLICATION)"
    )
