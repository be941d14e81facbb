"""The shapes that a plant gives the model, and the names of its readings.

A *reading* is a number per tick that a person could read off: the mean of a tag, the level of a
mel band, the colour of a region of the picture. Readings are what predictions are decoded to, so
that a deviation can be shown and whitened in observation space.

Shapes: S telemetry slots, C measured tags, M streams, F spectrogram frames.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fusion.alignment import rows_per_tick
from fusion.plant import AudioStream, Modality, Plant, Stream, TelemetryStream

NUM_MELS = 40
FFT_SECONDS = 0.032
HOP_SECONDS = 0.016
PICTURE_HW = (48, 64)
REGIONS_HW = (6, 8)


class StreamLayout(BaseModel):
    """What one stream gives the model per tick."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    modality: Modality
    input_shape: tuple[int, ...]
    readings: tuple[str, ...]
    units: tuple[str, ...]
    sample_rate_hz: int = 0


class Layout(BaseModel):
    """What a plant gives the model per tick; the order of streams is that of the plant file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: tuple[StreamLayout, ...]
    setpoints: tuple[str, ...]

    @property
    def num_readings(self) -> int:
        """The readings of all streams."""
        return sum(len(stream.readings) for stream in self.streams)

    @property
    def num_setpoints(self) -> int:
        """At least 1: a plant without set-points has one constant column."""
        return max(1, len(self.setpoints))

    def columns(self, stream: str) -> slice:
        """Return where the readings of ``stream`` lie among all readings."""
        begin = 0
        for each in self.streams:
            if each.name == stream:
                return slice(begin, begin + len(each.readings))
            begin += len(each.readings)
        raise KeyError(stream)

    def stream(self, name: str) -> StreamLayout:
        """Return the layout of the stream called ``name``."""
        return next(stream for stream in self.streams if stream.name == name)


def layout_of(plant: Plant) -> Layout:
    """Return the layout that ``plant`` gives."""
    return Layout(
        streams=tuple(_stream_layout(stream, plant) for stream in plant.streams),
        setpoints=tuple(tag.name for tag in plant.setpoints),
    )


def spectrogram_frames(num_samples: int, sample_rate_hz: int) -> int:
    """Return F, the frames of a tick's spectrogram; frames never reach over the tick's edges.

    Example:
        >>> spectrogram_frames(8_000, 16_000)
        30
    """
    fft, hop = round(FFT_SECONDS * sample_rate_hz), round(HOP_SECONDS * sample_rate_hz)
    return 1 + max(0, num_samples - fft) // hop


def _stream_layout(stream: Stream, plant: Plant) -> StreamLayout:
    if isinstance(stream, TelemetryStream):
        return StreamLayout(
            name=stream.name,
            modality="telemetry",
            input_shape=(2, rows_per_tick(stream, plant), len(stream.measured)),
            readings=tuple(tag.name for tag in stream.measured),
            units=tuple(tag.unit for tag in stream.measured),
        )
    if isinstance(stream, AudioStream):
        num_samples = round(stream.sample_rate_hz * plant.tick_s)
        return StreamLayout(
            name=stream.name,
            modality="audio",
            input_shape=(NUM_MELS, spectrogram_frames(num_samples, stream.sample_rate_hz)),
            readings=tuple(f"{stream.name} band {band + 1}" for band in range(NUM_MELS)),
            units=("dB",) * NUM_MELS,
            sample_rate_hz=stream.sample_rate_hz,
        )
    rows, columns = REGIONS_HW
    num_frames = stream.frames_per_tick
    return StreamLayout(
        name=stream.name,
        modality="video",
        input_shape=(3, *PICTURE_HW) if num_frames == 1 else (num_frames, 3, *PICTURE_HW),
        readings=tuple(
            f"{stream.name} {colour} row {row + 1} column {column + 1}"
            for colour in ("red", "green", "blue")
            for row in range(rows)
            for column in range(columns)
        ),
        units=("1",) * (3 * rows * columns),
    )
