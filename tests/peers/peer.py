"""What the contract suite asks of a device, whatever protocol it speaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from connectors.system_clock import SystemClock
from fusion.plant import Plant
from fusion.plant.devices import Device
from fusion.ports import DeviceSession, Observed, Reading, Unusable
from fusion.schema import AudioChunk, Quality, TelemetryBatch, VideoFrame

PATIENCE_S = 20.0
CLOCK = SystemClock()


class Peer(Protocol):
    """A real device, or the server of one, that a test can talk through, stop and start."""

    plant: Plant
    device: Device

    def open(self, position: str | None = None) -> DeviceSession: ...

    def say(self, value: float) -> None:
        """Let it measure ``value``, from 0 to 100, now."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Seen:
    """One observed thing, as every modality can be told."""

    stream: str
    value: float
    quality: Quality
    t_source_ns: int
    t_receive_ns: int


def seen(observed: Sequence[Observed]) -> list[Seen]:
    """Return what is in ``observed``; sound and pictures by their mean, in parts of 100."""
    found: list[Seen] = []
    for each in observed:
        assert not isinstance(each, Unusable), f"{each.stream} could not be used: {each.why}"
        if isinstance(each, Reading):
            quality = Quality(each.quality)
            found.append(
                Seen(each.stream, each.value, quality, each.t_source_ns, each.t_receive_ns)
            )
        elif isinstance(each, TelemetryBatch):
            for row, column in np.argwhere(each.quality_RC != Quality.NOT_REPORTED):
                found.append(
                    Seen(
                        each.stream,
                        float(each.values_RC[row, column]),
                        Quality(each.quality_RC[row, column]),
                        int(each.t_source_R_ns[row]),
                        int(each.t_receive_R_ns[row]),
                    )
                )
        elif isinstance(each, AudioChunk):
            loudness = float(np.sqrt(np.mean(each.samples_N.astype(np.float64) ** 2)) / 327.67)
            end_ns = each.t_start_ns + len(each.samples_N) * 10**9 // each.sample_rate_hz
            found.append(Seen(each.stream, loudness, Quality.GOOD, end_ns, each.t_receive_ns))
        elif isinstance(each, VideoFrame):
            grey = float(each.pixels_HW3.mean() / 2.55)
            found.append(
                Seen(each.stream, grey, Quality.GOOD, each.t_capture_ns, each.t_receive_ns)
            )
    return found


def read_until(
    session: DeviceSession,
    is_enough: Callable[[list[Seen]], bool],
    *,
    patience_s: float = PATIENCE_S,
) -> list[Seen]:
    """Read until ``is_enough`` of all that was seen; fail after ``patience_s``."""
    found: list[Seen] = []
    t_end_s = time.monotonic() + patience_s
    while not is_enough(found):
        assert time.monotonic() < t_end_s, f"still not enough: {found[-20:]}"
        found += seen(session.read(timeout_s=0.1))
    return found


def plant_with(stream: dict[str, Any], devices: Sequence[dict[str, Any]]) -> Plant:
    """Return a small plant of one stream."""
    return Plant.model_validate(
        {
            "prefix": "edge",
            "address": dict.fromkeys(
                ("enterprise", "site", "area", "line", "cell", "asset"), "test"
            ),
            "streams": [stream],
            "devices": list(devices),
        }
    )


TELEMETRY = {
    "name": "process",
    "modality": "telemetry",
    "rate_hz": 10,
    "tags": [{"name": "level", "unit": "%", "range": [0, 100]}],
}
MICROPHONE = {"name": "microphone", "modality": "audio", "sample_rate_hz": 16_000}
CAMERA = {"name": "camera", "modality": "video", "rate_hz": 5, "width_px": 64, "height_px": 48}
