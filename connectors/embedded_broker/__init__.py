"""The default broker for one machine: an append-only log in one SQLite file.

It keeps the promises that the product needs of a broker, and no more: order inside a partition,
keys that always meet the same partition, committed offsets per group, messages that become visible
together with the offsets that they answer for, and a retention time per topic. Any number of
processes may use the file; SQLite's write-ahead log lets readers go on while one writes.
"""

from connectors.embedded_broker.file import EmbeddedBroker
from connectors.embedded_broker.publisher import EmbeddedPublisher, partition_of
from connectors.embedded_broker.source import EmbeddedSource
from connectors.embedded_broker.topics import apply_topics, describe_topics

__all__ = [
    "EmbeddedBroker",
    "EmbeddedPublisher",
    "EmbeddedSource",
    "apply_topics",
    "describe_topics",
    "partition_of",
]
