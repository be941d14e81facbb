"""The plant description and the reader that explains its mistakes."""

from fusion.plant.description import (
    NANOSECONDS,
    Address,
    AlarmDefinition,
    AudioStream,
    ClockName,
    Limits,
    Modality,
    OperatingMode,
    Plant,
    Scoring,
    Stream,
    Tag,
    TelemetryStream,
    VideoStream,
)
from fusion.plant.loading import parse_plant
from fusion.plant.sending import StreamSender

__all__ = [
    "NANOSECONDS",
    "Address",
    "AlarmDefinition",
    "AudioStream",
    "ClockName",
    "Limits",
    "Modality",
    "OperatingMode",
    "Plant",
    "Scoring",
    "Stream",
    "StreamSender",
    "Tag",
    "TelemetryStream",
    "VideoStream",
    "parse_plant",
]
