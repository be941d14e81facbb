"""Apache Kafka through kafka-python: a source, a publisher with transactions, topic creation.

Offsets of a Kafka partition have holes: every transaction leaves a marker of its own. Positions
still only grow, and accounts count records, not offsets.
"""

from connectors.kafka_io.connection import FencedError, KafkaSettings
from connectors.kafka_io.publisher import KafkaPublisher
from connectors.kafka_io.source import KafkaSource
from connectors.kafka_io.topics import TopicSpec, ensure_topics

__all__ = [
    "FencedError",
    "KafkaPublisher",
    "KafkaSettings",
    "KafkaSource",
    "TopicSpec",
    "ensure_topics",
]
