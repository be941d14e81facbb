"""What one plant causes in a second, from its description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.capacity.costs import cost
from fusion.plant import AudioStream, Plant, Stream, TelemetryStream

US_PER_S = 1e6
TELEMETRY_RECORDS_PER_S = 10
"""Senders put what comes within 100 ms into one record."""
AUDIO_RECORDS_PER_S = 2


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """What one stream causes; bytes and microseconds are for a record."""

    kind: str
    records_per_s: float
    stored_bytes: float
    align_us: float


@dataclass(frozen=True, slots=True)
class PlantLoad:
    """What one plant causes in a second."""

    ticks_per_s: float
    records_per_s: float
    """Of senses and scores."""
    stored_bytes_per_s: Mapping[str, float]
    """By kind of topic, one copy, on the broker's disk."""
    live_cpu_s: float
    """Core-seconds of the live process."""


def load_of(plant: Plant) -> PlantLoad:
    """Return what one plant as ``plant`` describes it causes in a second of real time."""
    streams = [stream_load(stream) for stream in plant.streams]
    ticks_per_s = 1 / plant.tick_s
    stored = dict.fromkeys((each.kind for each in streams), 0.0)
    for each in streams:
        stored[each.kind] += each.records_per_s * each.stored_bytes
    stored["scores"] = ticks_per_s * cost("stored_score_bytes")
    align_us = sum(each.records_per_s * each.align_us for each in streams)
    return PlantLoad(
        ticks_per_s,
        sum(each.records_per_s for each in streams) + ticks_per_s,
        stored,
        align_us / US_PER_S + ticks_per_s * cost("score_tick_ms") / 1e3,
    )


def stream_load(stream: Stream) -> StreamLoad:
    """Return what one stream causes."""
    if isinstance(stream, TelemetryStream):
        rate = min(stream.rate_hz, TELEMETRY_RECORDS_PER_S)
        return StreamLoad("telemetry", rate, *_linear("telemetry", values_per_record(stream)))
    if isinstance(stream, AudioStream):
        num_samples = stream.sample_rate_hz / AUDIO_RECORDS_PER_S
        return StreamLoad(
            "audio",
            AUDIO_RECORDS_PER_S,
            num_samples * cost("stored_audio_sample_bytes"),
            num_samples * cost("align_audio_sample_us"),
        )
    return StreamLoad(
        "video", stream.rate_hz, *_linear("video", stream.width_px * stream.height_px)
    )


def values_per_record(stream: TelemetryStream) -> float:
    """Return how many values one record of ``stream`` holds."""
    return len(stream.tags) * max(1.0, stream.rate_hz / TELEMETRY_RECORDS_PER_S)


def _linear(kind: str, size: float) -> tuple[float, float]:
    """Return stored bytes and microseconds of aligning for a record of ``size`` parts."""
    part = {"telemetry": "value", "video": "pixel"}[kind]
    return (
        cost(f"stored_{kind}_record_bytes") + size * cost(f"stored_{kind}_{part}_bytes"),
        cost(f"align_{kind}_record_us") + size * cost(f"align_{kind}_{part}_us"),
    )
