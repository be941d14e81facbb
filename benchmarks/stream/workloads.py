"""What is sent: plants, and their messages as the product's own senders make them.

Sound and pictures come from the simulated rig (20 s of it, repeated); telemetry is a random walk
per tag, rounded as instruments do. All of it is simulated.

Shapes: R rows of a batch, C tags, N audio samples.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.plant import (
    NANOSECONDS,
    AudioStream,
    Plant,
    StreamSender,
    TelemetryStream,
    VideoStream,
    parse_plant,
)
from fusion.schema import AudioChunk, Message, Payload, Quality, TelemetryBatch, VideoFrame
from fusion.schema.codec import encode_audio
from fusion.simulation import EPOCH_NS, normal_scenario, simulate

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
POOL_S = 20
CHUNK_S = 0.5

Timed = tuple[int, Message]
"""When the record is complete in event time (ns), and the record."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One plant, how it sends, and for how long in event time."""

    name: str
    title: str
    plant: Plant
    seconds: float
    rows_per_batch: int = 1
    sound: str = "FLAC"


def make_plant(
    prefix: str,
    *,
    asset: str = "asset1",
    tags: int = 0,
    rate_hz: float = 10.0,
    microphone: bool = False,
    camera: tuple[int, int] | None = None,
    frame_rate_hz: float = 6.0,
    tick_s: float = 0.5,
) -> Plant:
    """Return a plant with the streams that are asked for."""
    streams: list[dict[str, object]] = []
    if tags:
        described = [
            {"name": f"tag{n:03d}", "unit": "1", "range": [-100, 100]} for n in range(tags)
        ]
        streams.append(
            {"name": "process", "modality": "telemetry", "rate_hz": rate_hz, "tags": described}
        )
    if microphone:
        streams.append({"name": "microphone", "modality": "audio", "sample_rate_hz": 16_000})
    if camera:
        size = {"width_px": camera[0], "height_px": camera[1]}
        streams.append({"name": "camera", "modality": "video", "rate_hz": frame_rate_hz, **size})
    levels = ("enterprise", "site", "area", "line", "cell")
    return Plant.model_validate(
        {
            "prefix": prefix,
            "address": dict.fromkeys(levels, "bench") | {"asset": asset},
            "is_simulated": True,
            "tick_s": tick_s,
            "streams": streams,
        }
    )


def workloads(scale: float) -> list[Workload]:
    """Return the workloads; ``scale`` 1 is the long form, smaller is shorter."""
    fast = make_plant("fast", tags=8, rate_hz=1_000)
    return [
        Workload(
            "telemetry-small",
            "16 tags at 10 Hz, one row a batch (100 ms)",
            make_plant("small", tags=16),
            6_000 * scale,
        ),
        Workload(
            "telemetry-fast",
            "8 channels at 1 kHz, 60 rows a batch",
            fast,
            1_200 * scale,
            rows_per_batch=60,
        ),
        Workload(
            "audio-flac",
            "microphone 16 kHz, FLAC, 0.5 s",
            make_plant("flac", microphone=True),
            3_000 * scale,
        ),
        Workload(
            "audio-pcm16",
            "microphone 16 kHz, PCM16, 0.5 s",
            make_plant("pcm", microphone=True),
            3_000 * scale,
            sound="PCM16",
        ),
        Workload(
            "video-160x120",
            "camera 160 x 120 at 6 Hz, JPEG",
            make_plant("smallvideo", camera=(160, 120)),
            2_000 * scale,
        ),
        Workload(
            "video-640x480",
            "camera 640 x 480 at 6 Hz, JPEG",
            make_plant("largevideo", camera=(640, 480)),
            200 * scale,
        ),
        Workload("mixed", "16 tags, FLAC microphone, camera 160 x 120", mixed(), 3_600 * scale),
    ]


def mixed(prefix: str = "mixed", asset: str = "asset1") -> Plant:
    """Return a plant with all modalities in the proportion of the product's own rig."""
    return make_plant(prefix, asset=asset, tags=16, microphone=True, camera=(160, 120))


def messages(workload: Workload, *, t_start_ns: int = EPOCH_NS) -> Iterator[Timed]:
    """Yield everything that the workload's plant sends, in the order of sending."""
    streams = [
        _stream_messages(workload, stream.name, t_start_ns=t_start_ns)
        for stream in workload.plant.streams
    ]
    end_ns = t_start_ns + round(workload.seconds * NANOSECONDS)
    return itertools.takewhile(
        lambda timed: timed[0] <= end_ns, heapq.merge(*streams, key=lambda timed: timed[0])
    )


def retarget(message: Message, plant: Plant) -> Message:
    """Return ``message`` as the same stream of another asset would have sent it."""
    stream = message.headers["ce_subject"].rpartition("/")[2]
    subject = plant.stream_address(stream)
    return replace(
        message,
        topic=f"{plant.prefix}.{message.topic.rpartition('.')[2]}",
        key=str(plant.address),
        headers={**message.headers, "ce_subject": subject},
    )


def _stream_messages(workload: Workload, name: str, *, t_start_ns: int) -> Iterator[Timed]:
    stream = workload.plant.stream(name)
    sender = StreamSender(workload.plant, name, source="bench", epoch=f"from-{t_start_ns}")
    if isinstance(stream, TelemetryStream):
        for batch in _batches(stream, workload.rows_per_batch, t_start_ns):
            yield int(batch.t_source_R_ns[-1]), sender.message(batch)
    elif isinstance(stream, AudioStream):
        for chunk in _chunks(stream, t_start_ns):
            message = sender.message(chunk)
            if workload.sound != "FLAC":
                message = replace(message, value=encode_audio(chunk, encoding=workload.sound))
            yield chunk.t_start_ns + round(CHUNK_S * NANOSECONDS), message
    else:
        for frame in _frames(stream, t_start_ns):
            yield frame.t_capture_ns, sender.message(frame)


def _batches(stream: TelemetryStream, num_rows: int, t_start_ns: int) -> Iterator[TelemetryBatch]:
    rng = np.random.default_rng(1)
    names = tuple(tag.name for tag in stream.tags)
    last_C = np.zeros(len(names))
    for batch in itertools.count():
        rows_R = batch * num_rows + np.arange(num_rows)
        t_R_ns = t_start_ns + np.round(rows_R * (NANOSECONDS / stream.rate_hz)).astype(np.int64)
        steps_RC = rng.normal(scale=0.05, size=(num_rows, len(names)))
        values_RC = np.round(last_C + np.cumsum(steps_RC, axis=0), 2)
        last_C = 0.99 * values_RC[-1]
        yield TelemetryBatch(
            stream=stream.name,
            tags=names,
            t_source_R_ns=t_R_ns,
            t_server_R_ns=t_R_ns + 2_000_000,
            t_receive_R_ns=t_R_ns + 9_000_000,
            values_RC=values_RC,
            quality_RC=np.full(values_RC.shape, Quality.GOOD, np.uint8),
            status_RC=np.zeros(values_RC.shape, np.uint32),
        )


def _chunks(stream: AudioStream, t_start_ns: int) -> Iterator[AudioChunk]:
    sound_N, _ = _pool(160, 120)
    num_samples = round(CHUNK_S * stream.sample_rate_hz)
    for chunk in itertools.count():
        begin = chunk * num_samples % len(sound_N)
        yield AudioChunk(
            stream=stream.name,
            t_start_ns=t_start_ns + round(chunk * CHUNK_S * NANOSECONDS),
            sample_rate_hz=stream.sample_rate_hz,
            sample_index=chunk * num_samples,
            gain_db=0.0,
            num_clipped=0,
            samples_N=sound_N[begin : begin + num_samples],
        )


def _frames(stream: VideoStream, t_start_ns: int) -> Iterator[VideoFrame]:
    _, pictures = _pool(stream.width_px, stream.height_px)
    for frame in itertools.count():
        t_ns = t_start_ns + round(frame * NANOSECONDS / stream.rate_hz)
        yield VideoFrame(stream.name, t_ns, pictures[frame % len(pictures)])


@functools.cache
def _pool(width_px: int, height_px: int) -> tuple[NDArray[np.int16], list[NDArray[np.uint8]]]:
    """Return sound and pictures of the simulated rig."""
    rig = parse_plant(RIG.read_text(encoding="utf-8"), origin=RIG.name)
    streams = tuple(
        stream.model_copy(update={"width_px": width_px, "height_px": height_px, "rate_hz": 6})
        if isinstance(stream, VideoStream)
        else stream
        for stream in rig.streams
    )
    payloads: list[Payload] = list(
        simulate(
            normal_scenario(duration_s=POOL_S, seed=1), rig.model_copy(update={"streams": streams})
        )
    )
    sound_N = np.concatenate([p.samples_N for p in payloads if isinstance(p, AudioChunk)])
    return sound_N, [p.pixels_HW3 for p in payloads if isinstance(p, VideoFrame)]
