"""What topics there are, and who may use them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from connectors import embedded_broker, kafka_io
from connectors.kafka_io import KafkaSettings
from flows.settings import Settings
from flows.wiring.brokers import kafka_settings, open_embedded
from fusion.errors import SettingsError
from fusion.plant import Grant, Plant, TopicPlan, TopicSpec, topics_of


def prepare_topics(settings: Settings, plant: Plant, *, update_configs: bool = False) -> TopicPlan:
    """Create the topics of ``plant`` that do not exist yet, and return what was done.

    With ``update_configs`` the retention of those that exist is altered where it differs.

    Raises:
        TopicMismatchError: Topics that exist are not as the plant describes them.
    """
    return create_topics(settings, topics_of(plant), update_configs=update_configs)


def create_topics(
    settings: Settings, specs: Mapping[str, TopicSpec], *, update_configs: bool = False
) -> TopicPlan:
    """Create the topics of ``specs`` that do not exist yet, and return what was done.

    Raises:
        TopicMismatchError: Topics that exist are not so.
    """
    if settings.broker == "kafka":
        return kafka_io.apply_topics(kafka_settings(settings), specs, update_configs=update_configs)
    return embedded_broker.apply_topics(
        open_embedded(settings), specs, update_configs=update_configs
    )


def found_topics(settings: Settings, plant: Plant) -> dict[str, TopicSpec]:
    """Return what those topics of ``plant`` that exist are."""
    topics = topics_of(plant)
    if settings.broker == "kafka":
        return kafka_io.describe_topics(kafka_settings(settings), topics)
    return embedded_broker.describe_topics(open_embedded(settings), topics)


def topic_copies(settings: Settings, topics: Collection[str]) -> dict[str, kafka_io.Copies]:
    """Return how often Kafka stores those of ``topics`` that exist; nothing on the other broker."""
    return (
        kafka_io.copies_of(kafka_settings(settings), topics) if settings.broker == "kafka" else {}
    )


def topic_ids(settings: Settings, topics: Collection[str]) -> dict[str, str]:
    """Return the broker's own name of each of ``topics``: a topic that is made anew has another.

    None on the embedded broker: nothing deletes a single topic of its file.
    """
    return (
        kafka_io.topic_ids(kafka_settings(settings), topics) if settings.broker == "kafka" else {}
    )


def found_grants(settings: Settings, principals: Collection[str]) -> set[Grant]:
    """Return what the brokers allow ``principals``.

    Raises:
        SettingsError: The broker is not Kafka, or has no authorizer.
    """
    return kafka_io.found_grants(_kafka_only(settings), principals)


def apply_grants(
    settings: Settings, wanted: Collection[Grant], *, prune: bool
) -> tuple[list[Grant], list[Grant]]:
    """Allow what is missing of ``wanted``; return it, and what its users may do beside it.

    Raises:
        SettingsError: The broker is not Kafka, or has no authorizer, or refuses.
    """
    return kafka_io.apply_grants(_kafka_only(settings), wanted, prune=prune)


def _kafka_only(settings: Settings) -> KafkaSettings:
    if settings.broker != "kafka":
        raise SettingsError(
            "the embedded broker has no users, whoever may read its file may do everything; set "
            "FUSION_BROKER=kafka"
        )
    return kafka_settings(settings)
