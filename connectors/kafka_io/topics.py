"""Creates the topics of a plant, and holds those that exist to what they must be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import (
    InvalidReplicationFactorError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from connectors.kafka_io.connection import unavailable
from connectors.kafka_io.opening import opened
from connectors.kafka_io.settings import KafkaSettings
from fusion.errors import SettingsError
from fusion.plant import TopicPlan, TopicSpec, plan_topics

CONFIGS = ("cleanup.policy", "retention.ms", "max.message.bytes")
COMPACTED_CONFIGS = {"segment.bytes": str(16 * 1024 * 1024), "min.cleanable.dirty.ratio": "0.1"}
"""Whoever takes over a partition reads its checkpoints from the start of the topic. Kafka compacts
no segment that is written to, and its segments have 1 GB otherwise."""


def describe_topics(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, TopicSpec]:
    """Return what those of ``topics`` that exist are."""
    with administration(settings) as admin:
        return _describe(admin, list(topics))


def present_topics(settings: KafkaSettings) -> set[str]:
    """Return the names of all topics of the cluster."""
    with administration(settings) as admin:
        return set(admin.list_topics())


def topic_ids(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """Return the id that the cluster gave to each of ``topics`` (KIP-516).

    A topic that was deleted and made anew has another one. Absent for topics that do not exist, and
    on brokers older than 2.8, which give none.
    """
    with administration(settings) as admin:
        found = admin.describe_topics(list(topics))
    return {each["name"]: str(each["topic_id"]) for each in found if each.get("topic_id")}


def apply_topics(
    settings: KafkaSettings, specs: Mapping[str, TopicSpec], *, update_configs: bool
) -> TopicPlan:
    """Create the topics of ``specs`` that are not there, and return what was done.

    With ``update_configs`` the retention and the largest message of those that are there are
    altered where they differ.

    Raises:
        TopicMismatchError: Topics that exist differ; then nothing was done to any.
    """
    with administration(settings) as admin:
        plan = plan_topics(specs, _describe(admin, list(specs)), update_configs=update_configs)
        if plan.missing:
            taken = _create(admin, plan.missing, settings.replication)
            # Another process was faster; what it made has to be right as well.
            plan_topics(taken, _describe(admin, list(taken)), update_configs=False)
        if plan.altered:
            _alter(admin, plan.altered)
    return plan


class Copies(NamedTuple):
    """How often a topic is stored, of the partition that is worst off."""

    num_replicas: int
    num_in_sync: int
    min_in_sync: int
    """A write that asks for it is refused while fewer are."""


def copies_of(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, Copies]:
    """Return how often those of ``topics`` that exist are stored."""
    with administration(settings) as admin:
        there = set(admin.list_topics()) & set(topics)
        if not there:
            return {}
        asked = [
            ConfigResource(ConfigResourceType.TOPIC, topic, {"min.insync.replicas": ""})
            for topic in there
        ]
        configs = admin.describe_configs(asked, config_filter="all")["topic"]
        return {
            each["name"]: Copies(
                min(len(part["replica_nodes"]) for part in each["partitions"]),
                min(len(part["isr_nodes"]) for part in each["partitions"]),
                int(configs[each["name"]]["min.insync.replicas"]["value"]),
            )
            for each in admin.describe_topics(sorted(there))
        }


@contextlib.contextmanager
def administration(settings: KafkaSettings) -> Iterator[Any]:
    """Yield a client of the cluster's administration."""
    with unavailable(settings):
        admin: Any = opened(KafkaAdminClient, settings)
        with contextlib.closing(admin):
            yield admin


def _describe(admin: Any, topics: list[str]) -> dict[str, TopicSpec]:
    if not topics:
        return {}
    partitions: dict[str, int] = {}
    for each in admin.describe_topics(topics):
        error = for_code(each["error_code"])
        if error is UnknownTopicOrPartitionError:
            continue
        if error is not NoError:
            raise error(each["name"])
        partitions[each["name"]] = len(each["partitions"])
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(CONFIGS, ""))
        for name in partitions
    ]
    found = admin.describe_configs(asked, config_filter="all") if asked else {}
    return {name: _to_spec(name, count, found["topic"][name]) for name, count in partitions.items()}


def _to_spec(topic: str, partitions: int, configs: Mapping[str, Mapping[str, Any]]) -> TopicSpec:
    if any(name not in configs for name in CONFIGS):
        raise SettingsError(
            f"the configuration of topic {topic!r} must be readable to be checked, but the broker "
            "does not show it; allow this client DescribeConfigs on the plant's topics"
        )
    policy, retention_ms, max_bytes = (configs[name]["value"] for name in CONFIGS)
    return TopicSpec(
        partitions=partitions,
        is_compacted="compact" in policy,
        # A topic that is only compacted has the number too, and it means nothing.
        retention_ms=None if policy == "compact" else int(retention_ms),
        max_message_bytes=int(max_bytes),
    )


def _to_configs(spec: TopicSpec) -> dict[str, str]:
    kept = {} if spec.retention_ms is None else {"retention.ms": str(spec.retention_ms)}
    return kept | {"max.message.bytes": str(spec.max_message_bytes)}


def _create(admin: Any, specs: Mapping[str, TopicSpec], replication: int) -> dict[str, TopicSpec]:
    """Create ``specs``, and return those that another process has created meanwhile."""
    new = [
        NewTopic(
            topic,
            num_partitions=spec.partitions,
            replication_factor=replication,
            topic_configs=_to_configs(spec)
            | (COMPACTED_CONFIGS if spec.is_compacted else {})
            | {
                "cleanup.policy": "compact" if spec.is_compacted else "delete",
                # Else a sender whose clock is wrong would be measured against itself.
                "message.timestamp.type": "LogAppendTime",
            },
        )
        for topic, spec in specs.items()
    ]
    taken: dict[str, TopicSpec] = {}
    for made in admin.create_topics(new, raise_errors=False)["topics"]:
        error = for_code(made["error_code"])
        if error is TopicAlreadyExistsError:
            taken[made["name"]] = specs[made["name"]]
        elif error is InvalidReplicationFactorError:
            raise SettingsError(
                f"there must be a broker for each copy of topic {made['name']!r}, but: "
                f"{made['error_message']}; lower FUSION_KAFKA_REPLICATION ({replication}), or "
                "start more brokers"
            )
        elif error is not NoError:
            raise error(f"{made['name']}: {made['error_message']}")
    # The answer comes before every broker knows of them.
    admin.wait_for_topics(list(specs))
    return taken


def _alter(admin: Any, specs: Mapping[str, TopicSpec]) -> None:
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, topic, _to_configs(spec))
        for topic, spec in specs.items()
    ]
    answers = admin.alter_configs(asked, incremental=True, raise_on_unknown=False)["topic"]
    refused = {topic: answer for topic, answer in answers.items() if answer != "OK"}
    if refused:
        raise SettingsError(
            f"the broker must accept the topics' new configuration, but refused: {refused}; allow "
            "this client AlterConfigs on them, or change the plant file back"
        )
