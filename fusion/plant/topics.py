"""The topics of a plant: what each must be, and what to do where the broker has another.

Key and partition hang together: all that is keyed by the asset has one number of partitions, so
that whoever reads a partition of one topic meets the same assets in the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.errors import TopicMismatchError
from fusion.plant.description import Plant
from fusion.schema import MAX_RECORD_BYTES

MS_PER_HOUR = 3_600_000
MAX_MESSAGE_BYTES = MAX_RECORD_BYTES + 64 * 1024
"""A record's value of the largest size, with its key, headers and the framing of its batch."""

TOGETHER_KINDS = ("alarm-commands",)
"""Partitioned as the senses are: the process that watches an asset gets its commands too."""
SINGLE_KINDS = ("scores", "alarm-events", "dead-letters", "stream-health")
"""One partition: small, and read in the order in which it was said over all assets."""
COMPACTED_KINDS = ("schemas", "dead-letter-replays")
"""Only the newest record of each key counts; one partition, so that one reader sees all."""
COMPACTED_TOGETHER_KINDS = ("checkpoints", "alarms", "feedback")
"""What a restart goes on from. Compacted, and partitioned as the senses are: each partition has one
writer at a time. A dead one's open transaction hides everything behind it from readers of what is
committed, and it must not hide what others go on from."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be, or is."""

    partitions: int
    is_compacted: bool = False
    retention_ms: int | None = None
    """None: not asked for, as in a compacted topic; the broker does what it does by itself."""
    max_message_bytes: int = MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Difference:
    """One property in which a topic is not what it must be."""

    property: str
    wanted: str
    found: str
    is_alterable: bool
    """Whether a topic can take it on later without harm to the records in it."""

    def __str__(self) -> str:
        return f"{self.property} must be {self.wanted}, it has {self.found}"


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What has to be done so that every topic is right."""

    missing: Mapping[str, TopicSpec]
    altered: Mapping[str, TopicSpec]


def topics_of(plant: Plant) -> dict[str, TopicSpec]:
    """Return every topic of ``plant`` by name: senses first, compacted ones last.

    Plants that share a prefix share these topics; each brings those of the modalities it has.
    """
    prefix = plant.topic("")
    hours = {
        kind.replace("_", "-"): kept_h
        for kind, kept_h in plant.topics.retention_h.model_dump().items()
    }
    kinds = dict.fromkeys(topic.removeprefix(prefix) for topic in plant.sense_topics)
    partitions = dict.fromkeys((*kinds, *TOGETHER_KINDS), plant.topics.partitions)
    partitions |= dict.fromkeys(SINGLE_KINDS, 1)
    specs = {
        plant.topic(kind): TopicSpec(count, retention_ms=round(hours[kind] * MS_PER_HOUR))
        for kind, count in partitions.items()
    }
    compacted = dict.fromkeys(COMPACTED_KINDS, 1)
    compacted |= dict.fromkeys(COMPACTED_TOGETHER_KINDS, plant.topics.partitions)
    return specs | {
        plant.topic(kind): TopicSpec(count, is_compacted=True) for kind, count in compacted.items()
    }


def differences(wanted: TopicSpec, found: TopicSpec) -> tuple[Difference, ...]:
    """Return where ``found`` is not what is ``wanted``, those that cannot be altered first.

    Example:
        >>> [str(each) for each in differences(TopicSpec(4), TopicSpec(1))]
        ['partitions must be 4, it has 1']
    """
    compared = (
        ("partitions", str(wanted.partitions), str(found.partitions), False),
        ("clean-up", policy_text(wanted), policy_text(found), False),
        ("retention", retention_text(wanted), retention_text(found), True),
        ("largest message", f"{wanted.max_message_bytes} B", f"{found.max_message_bytes} B", True),
    )
    return tuple(
        Difference(*each)
        for each in compared
        if each[1] != each[2] and not (each[0] == "retention" and wanted.retention_ms is None)
    )


def plan_topics(
    wanted: Mapping[str, TopicSpec], found: Mapping[str, TopicSpec], *, update_configs: bool
) -> TopicPlan:
    """Return which topics to create, and with ``update_configs`` which to alter.

    Raises:
        TopicMismatchError: Topics differ in what nobody may alter, or must not alter unasked. The
            message lists every difference.
    """
    differing = {
        topic: found_differences
        for topic in wanted
        if topic in found and (found_differences := differences(wanted[topic], found[topic]))
    }
    is_fatal = any(not each.is_alterable for listed in differing.values() for each in listed)
    if differing and (is_fatal or not update_configs):
        raise TopicMismatchError(_explain(differing, is_fatal=is_fatal))
    return TopicPlan(
        missing={topic: spec for topic, spec in wanted.items() if topic not in found},
        altered={topic: wanted[topic] for topic in differing},
    )


def retention_text(spec: TopicSpec) -> str:
    """Return how long records stay in words, for example ``168 h``."""
    if spec.is_compacted:
        return "newest of each key"
    if spec.retention_ms is None:
        return "not set"
    return "for ever" if spec.retention_ms < 0 else f"{spec.retention_ms / MS_PER_HOUR:g} h"


def policy_text(spec: TopicSpec) -> str:
    """Return the topic's ``cleanup.policy`` in Kafka's words."""
    if spec.is_compacted and spec.retention_ms is not None:
        return "compact,delete"  # found only: the newest record of a key goes away too
    return "compact" if spec.is_compacted else "delete"


def _explain(differing: Mapping[str, tuple[Difference, ...]], *, is_fatal: bool) -> str:
    lines = ["topics that exist must be as the plant describes them, but:"]
    lines += [f"  {topic}: {each}" for topic, listed in differing.items() for each in listed]
    if is_fatal:
        lines.append(
            "Partitions and clean-up are never changed here: keys would move to other partitions, "
            "an asset's records lose their order and no longer meet in one reader, committed "
            "offsets and restarts would be wrong. Set topics.partitions in the plant file to what "
            "the topics have, or take another prefix, or stop every process of the plant, save "
            "what you need (fusion ingest), and delete the topics."
        )
    else:
        lines.append(
            "Change the plant file (topics.retention_h), or the topics: "
            "fusion topics apply PLANT --update"
        )
    lines.append("Plants with one prefix share their topics, so their files must agree.")
    return "\n".join(lines)
