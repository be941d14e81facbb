"""The plant description and the reader that explains its mistakes."""

from fusion.plant.access import Grant, Policy, grants_of, parse_policy
from fusion.plant.alarm_definition import AlarmDefinition
from fusion.plant.description import (
    Address,
    OperatingMode,
    Plant,
    RetentionHours,
    Scoring,
    Topics,
    thresholds_of,
)
from fusion.plant.loading import parse_plant
from fusion.plant.sending import StreamSender
from fusion.plant.streams import (
    NANOSECONDS,
    AudioStream,
    ClockName,
    Limits,
    Modality,
    Stream,
    Tag,
    TelemetryStream,
    VideoStream,
)
from fusion.plant.topics import (
    MAX_MESSAGE_BYTES,
    Difference,
    TopicPlan,
    TopicSpec,
    differences,
    plan_topics,
    retention_text,
    topics_of,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "NANOSECONDS",
    "Address",
    "AlarmDefinition",
    "AudioStream",
    "ClockName",
    "Difference",
    "Grant",
    "Limits",
    "Modality",
    "OperatingMode",
    "Plant",
    "Policy",
    "RetentionHours",
    "Scoring",
    "Stream",
    "StreamSender",
    "Tag",
    "TelemetryStream",
    "TopicPlan",
    "TopicSpec",
    "Topics",
    "VideoStream",
    "differences",
    "grants_of",
    "parse_plant",
    "parse_policy",
    "plan_topics",
    "retention_text",
    "thresholds_of",
    "topics_of",
]
