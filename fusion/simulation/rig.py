"""The whole rig: one scenario to the payloads of all its streams, in event-time order."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fusion.errors import InputError
from fusion.plant import AudioStream, Plant, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Payload, TelemetryBatch
from fusion.simulation.camera import Camera
from fusion.simulation.dynamics import BLOCK_S, Rig
from fusion.simulation.instruments import INSTRUMENTS, ROWS_PER_S, read_instruments
from fusion.simulation.microphone import SAMPLE_RATE_HZ, Microphone
from fusion.simulation.scenario import Scenario


def simulate(scenario: Scenario, plant: Plant) -> Iterator[Payload]:
    """Yield everything that the simulated rig's streams send, in the order of sending.

    Memory holds one block of 10 s. A run lasts whole blocks: ``duration_s`` is rounded up.

    Raises:
        InputError: ``plant`` is not a description of the simulated rig.
    """
    telemetry, audio, video = _streams(plant)
    rig, microphone, camera = Rig(scenario), Microphone(scenario), Camera(scenario, video)
    for block in range(math.ceil(scenario.duration_s / BLOCK_S)):
        steps_KC = rig.block()
        payloads: list[Payload] = [
            *read_instruments(steps_KC, scenario, block=block, stream=telemetry.name),
            *microphone.listen(steps_KC, block=block, stream=audio.name),
            *camera.look(steps_KC, block=block),
        ]
        yield from sorted(payloads, key=_sent_ns)


def _sent_ns(payload: Payload) -> int:
    """Return when the payload is complete: a batch and a chunk at their end, a frame at once."""
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[-1])
    if isinstance(payload, AudioChunk):
        return payload.t_start_ns + len(payload.samples_N) * 1_000_000_000 // payload.sample_rate_hz
    return payload.t_capture_ns


def _streams(plant: Plant) -> tuple[TelemetryStream, AudioStream, VideoStream]:
    by_modality = {stream.modality: stream for stream in plant.streams}
    telemetry, audio = by_modality.get("telemetry"), by_modality.get("audio")
    video = by_modality.get("video")
    if (
        len(plant.streams) == 3
        and isinstance(telemetry, TelemetryStream)
        and isinstance(audio, AudioStream)
        and isinstance(video, VideoStream)
        and {tag.name for tag in telemetry.tags} == set(INSTRUMENTS)
        and telemetry.rate_hz == ROWS_PER_S
        and audio.sample_rate_hz == SAMPLE_RATE_HZ
    ):
        return telemetry, audio, video
    raise InputError(
        f"the simulator plays one telemetry stream at {ROWS_PER_S} Hz with the tags "
        f"{sorted(INSTRUMENTS)}, one microphone at {SAMPLE_RATE_HZ} Hz and one camera; "
        f"the plant has {[f'{s.name} ({s.modality})' for s in plant.streams]}; use plants/rig.yaml"
    )
