"""Apache Kafka through kafka-python: a source, a publisher with transactions, topics.

Offsets of a Kafka partition have holes: every transaction leaves a marker of its own. Positions
still only grow, and accounts count records, not offsets.
"""

from connectors.kafka_io.access import require_access
from connectors.kafka_io.acls import apply_grants, found_grants
from connectors.kafka_io.publisher import KafkaPublisher, partition_of
from connectors.kafka_io.settings import KafkaSettings
from connectors.kafka_io.source import KafkaSource, Membership
from connectors.kafka_io.topics import (
    Copies,
    apply_topics,
    copies_of,
    describe_topics,
    present_topics,
    topic_ids,
)

__all__ = [
    "Copies",
    "KafkaPublisher",
    "KafkaSettings",
    "KafkaSource",
    "Membership",
    "apply_grants",
    "apply_topics",
    "copies_of",
    "describe_topics",
    "found_grants",
    "partition_of",
    "present_topics",
    "require_access",
    "topic_ids",
]
