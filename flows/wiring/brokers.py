"""Readers and writers of records, on Kafka or on the embedded broker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from connectors import embedded_broker, kafka_io
from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from connectors.kafka_io import (
    KafkaPublisher,
    KafkaSettings,
    KafkaSource,
    Membership,
    present_topics,
    require_access,
)
from flows.settings import Settings
from fusion.plant import Plant
from fusion.ports import Publisher, Source
from fusion.schema import Record
from fusion.stream.reading import read_to_end


def open_source(settings: Settings, topics: Sequence[str], group: str) -> Source:
    """Return a reader of ``topics`` that starts where ``group`` has committed, else at first."""
    if settings.broker == "kafka":
        return KafkaSource(kafka_settings(settings), topics=topics, group=group)
    return EmbeddedSource(open_embedded(settings), topics=topics, group=group)


def open_member(settings: Settings, topics: Sequence[str], group: str) -> Source:
    """Return a reader of this process's share of ``topics``: whole partition numbers.

    On the embedded broker that is everything: one machine has one reader of a group.
    """
    if settings.broker == "kafka":
        membership = Membership(settings.replica or None, settings.session_timeout_s)
        return KafkaSource(kafka_settings(settings), topics, group, membership)
    return EmbeddedSource(open_embedded(settings), topics=topics, group=group)


def open_publisher(
    settings: Settings, *, group: str | None = None, writer: str = "fusion"
) -> Publisher:
    """Return a writer; with ``group`` its messages and that group's offsets are one transaction.

    ``writer`` names the one process that may write so: opening a second one shuts out the first.
    """
    if settings.broker == "kafka":
        transactional_id = None if group is None else f"{writer}-{group}"
        return KafkaPublisher(
            kafka_settings(settings), group=group, transactional_id=transactional_id
        )
    return EmbeddedPublisher(open_embedded(settings), group=group)


def topics_there(settings: Settings, topics: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``topics`` that the broker has."""
    if settings.broker == "kafka":
        there = present_topics(kafka_settings(settings))
    elif not settings.broker_path.exists():
        return ()  # (opening it would create it)
    else:
        there = open_embedded(settings).topics()
    return tuple(topic for topic in topics if topic in there)


def read_topic(settings: Settings, plant: Plant, kind: str) -> Iterator[Record]:
    """Yield what the plant's topic of ``kind`` holds now; nothing, and creates none, without it.

    Raises:
        BrokerUnavailableError: The broker is away.
    """
    there = topics_there(settings, [plant.topic(kind)])
    if not there:
        return
    with contextlib.closing(open_source(settings, there, f"reads-{plant.prefix}")) as source:
        yield from read_to_end(source)


def key_partitions(settings: Settings, plant: Plant) -> Callable[[str], int]:
    """Return what tells the partition number that the broker's own clients choose for a key."""
    broker = kafka_io if settings.broker == "kafka" else embedded_broker
    return lambda key: broker.partition_of(key, plant.topics.partitions)


def kafka_settings(settings: Settings) -> KafkaSettings:
    """Return how Kafka is reached.

    Raises:
        SettingsError: A broker refuses us, or cannot be trusted.
    """
    reached = KafkaSettings(
        bootstrap_servers=settings.kafka_bootstrap,
        security=settings.kafka_security,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.read_kafka_password(),
        replication=settings.kafka_replication,
    )
    # The client itself would try for half a minute, and then not know why.
    require_access(reached)
    return reached


def open_embedded(settings: Settings) -> EmbeddedBroker:
    """Return the broker that is one file, which is made where there is none."""
    settings.broker_path.parent.mkdir(parents=True, exist_ok=True)
    return EmbeddedBroker(settings.broker_path)
