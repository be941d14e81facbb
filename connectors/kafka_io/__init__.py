"""Apache Kafka through kafka-python: a source, a publisher with transactions, topic creation.

Offsets of a Kafka partition have holes: every transaction leaves a marker of its own. Positions
still only grow, and accounts count records, not offsets.
"""

from connectors.kafka_io.connection import KafkaSettings
from connectors.kafka_io.publisher import KafkaPublisher
from connectors.kafka_io.source import KafkaSource, Membership
from connectors.kafka_io.topics import TopicSpec, ensure_topics, present_topics

__all__ = [
    "KafkaPublisher",
    "KafkaSettings",
    "KafkaSource",
    "Membership",
    "TopicSpec",
    "ensure_topics",
    "present_topics",
]
