"""What the streams have said about ticks that are still open; one buffer class per modality.

``add`` takes what lies in open ticks and returns which; ``take`` gives one tick, in tick order.
What a buffer gives does not depend on the order in which records came: ties in time are settled by
the sender's sequence number.

Shapes: R rows, C tags, S slots of a tick, N audio samples of a tick, H x W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.alignment.admission import event_times_ns
from fusion.alignment.observation import rows_per_tick
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Payload, Quality, TelemetryBatch, VideoFrame

MIN_AUDIO_COVERAGE = 0.8
"""A tick with less sound than this has none: its spectrum would be that of the holes."""

LONG_AGO_NS = np.iinfo(np.int64).min // 4


class Ticks(NamedTuple):
    """The first and the last open tick that a record says something about."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sense:
    """What one stream says about one tick, and the share of it that is usable."""

    values: NDArray[np.generic]
    usable: float


class Buffer(Protocol):
    """What the aligner needs of a stream's buffer."""

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep what lies in ``first_open`` or later; None when nothing does."""
        ...

    def take(self, tick: int) -> Sense | None:
        """Return what is known of ``tick`` and forget it; None when the stream was absent."""
        ...

    def first_tick(self) -> int | None:
        """Return the oldest tick that something lies in, None when all is empty."""
        ...


def buffer_for(stream: Stream, plant: Plant) -> Buffer:
    """Return an empty buffer for ``stream``."""
    if isinstance(stream, TelemetryStream):
        return TelemetryBuffer(stream, plant)
    if isinstance(stream, AudioStream):
        return AudioBuffer(stream, plant)
    return VideoBuffer(stream, plant)


class TelemetryBuffer:
    """Rows of open ticks, and the last usable value of every tag."""

    def __init__(self, stream: TelemetryStream, plant: Plant) -> None:
        self._stream = stream
        self._tick_ns = plant.tick_ns
        self._num_slots = rows_per_tick(stream, plant)
        self._max_age_ns = round(stream.max_age_s * NANOSECONDS)
        self._column = {tag.name: index for index, tag in enumerate(stream.tags)}
        self._is_measured_C = np.array([not tag.setpoint for tag in stream.tags])
        num_tags = len(stream.tags)
        self._held_C = np.full(num_tags, np.nan)
        self._held_at_C_ns = np.full(num_tags, LONG_AGO_NS, np.int64)
        # tick -> parts of (times [R], sequence number, values [R, C])
        self._parts: dict[int, list[tuple[NDArray[np.int64], int, NDArray[np.float64]]]] = (
            defaultdict(list)
        )

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the rows that lie in ``first_open`` or later, split by tick."""
        assert isinstance(payload, TelemetryBatch)
        t_R_ns = event_times_ns(payload, self._stream)
        tick_R = t_R_ns // self._tick_ns
        if tick_R.max() < first_open:
            return None
        values_RC = np.full((len(t_R_ns), len(self._column)), np.nan)
        is_usable_RC = (payload.quality_RC <= Quality.UNCERTAIN) & np.isfinite(payload.values_RC)
        columns = [self._column[tag] for tag in payload.tags]
        values_RC[:, columns] = np.where(is_usable_RC, payload.values_RC, np.nan)
        ticks = [tick for tick in np.unique(tick_R).tolist() if tick >= first_open]
        for tick in ticks:
            rows_R = tick_R == tick
            self._parts[tick].append((t_R_ns[rows_R], seq, values_RC[rows_R]))
        return Ticks(ticks[0], ticks[-1])

    def take(self, tick: int) -> Sense | None:
        """Return float32 [S, C]: per slot the last usable value not older than the maximum age."""
        start_ns = tick * self._tick_ns
        num_slots, num_tags = self._num_slots, len(self._column)
        values_SC = np.full((num_slots + 1, num_tags), np.nan)
        at_SC_ns = np.full((num_slots + 1, num_tags), LONG_AGO_NS, np.int64)
        values_SC[0], at_SC_ns[0] = self._held_C, self._held_at_C_ns
        parts = self._parts.pop(tick, [])
        if parts:
            t_R_ns = np.concatenate([times for times, _, _ in parts])
            seq_R = np.concatenate([np.full(len(times), seq) for times, seq, _ in parts])
            order_R = np.lexsort((seq_R, t_R_ns))
            t_R_ns = t_R_ns[order_R]
            values_RC = np.concatenate([values for _, _, values in parts])[order_R]
            slot_R = 1 + (t_R_ns - start_ns) * num_slots // self._tick_ns
            row_K, tag_K = np.nonzero(np.isfinite(values_RC))
            # Rows are in time order, and of repeated indices numpy keeps the last assignment.
            values_SC[slot_R[row_K], tag_K] = values_RC[row_K, tag_K]
            at_SC_ns[slot_R[row_K], tag_K] = t_R_ns[row_K]
        filled_SC = np.where(np.isfinite(values_SC), np.arange(num_slots + 1)[:, None], 0)
        np.maximum.accumulate(filled_SC, axis=0, out=filled_SC)
        values_SC = np.take_along_axis(values_SC, filled_SC, axis=0)
        at_SC_ns = np.take_along_axis(at_SC_ns, filled_SC, axis=0)
        self._held_C, self._held_at_C_ns = values_SC[-1], at_SC_ns[-1]
        slot_end_S_ns = start_ns + (np.arange(num_slots) + 1) * self._tick_ns // num_slots
        is_young_SC = slot_end_S_ns[:, None] - at_SC_ns[1:] <= self._max_age_ns
        values_SC = np.where(is_young_SC, values_SC[1:], np.nan)
        usable = float(np.isfinite(values_SC[:, self._is_measured_C]).mean())
        return Sense(values_SC.astype(np.float32), usable) if usable > 0 else None

    def first_tick(self) -> int | None:
        """Return the oldest tick with a row in it."""
        return min(self._parts, default=None)


class AudioBuffer:
    """Pieces of sound of open ticks. Sound is never held: a tick has its own or none."""

    def __init__(self, stream: AudioStream, plant: Plant) -> None:
        self._rate_hz = stream.sample_rate_hz
        self._num_samples = round(stream.sample_rate_hz * plant.tick_s)
        # tick -> pieces of (sequence number, first sample inside the tick, samples)
        self._pieces: dict[int, list[tuple[int, int, NDArray[np.int16]]]] = defaultdict(list)

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the samples that lie in ``first_open`` or later, cut at the edges of ticks."""
        assert isinstance(payload, AudioChunk)
        # Samples are numbered from 1970 at the nominal rate: tick k starts at k * N exactly.
        begin = (payload.t_start_ns * self._rate_hz + NANOSECONDS // 2) // NANOSECONDS
        end = begin + len(payload.samples_N)
        first = max(first_open, begin // self._num_samples)
        last = (end - 1) // self._num_samples
        if last < first:
            return None
        for tick in range(first, last + 1):
            tick_begin = tick * self._num_samples
            piece_begin = max(begin, tick_begin)
            samples = payload.samples_N[
                piece_begin - begin : tick_begin + self._num_samples - begin
            ]
            self._pieces[tick].append((seq, piece_begin - tick_begin, samples))
        return Ticks(first, last)

    def take(self, tick: int) -> Sense | None:
        """Return int16 [N], holes silent; None when less than 80 % of the tick was heard."""
        samples_N = np.zeros(self._num_samples, np.int16)
        is_heard_N = np.zeros(self._num_samples, bool)
        for _, begin, piece in sorted(self._pieces.pop(tick, []), key=lambda piece: piece[:2]):
            samples_N[begin : begin + len(piece)] = piece
            is_heard_N[begin : begin + len(piece)] = True
        coverage = float(is_heard_N.mean())
        return Sense(samples_N, coverage) if coverage >= MIN_AUDIO_COVERAGE else None

    def first_tick(self) -> int | None:
        """Return the oldest tick with sound in it."""
        return min(self._pieces, default=None)


class VideoBuffer:
    """Frames of open ticks, and the newest frame before them."""

    def __init__(self, stream: VideoStream, plant: Plant) -> None:
        self._tick_ns = plant.tick_ns
        self._max_age_ns = round(stream.max_age_s * NANOSECONDS)
        self._held: tuple[int, int, NDArray[np.uint8]] | None = None
        # tick -> frames of (capture time, sequence number, pixels)
        self._frames: dict[int, list[tuple[int, int, NDArray[np.uint8]]]] = defaultdict(list)

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the frame when it lies in ``first_open`` or later."""
        assert isinstance(payload, VideoFrame)
        tick = payload.t_capture_ns // self._tick_ns
        if tick < first_open:
            return None
        self._frames[tick].append((payload.t_capture_ns, seq, payload.pixels_HW3))
        return Ticks(tick, tick)

    def take(self, tick: int) -> Sense | None:
        """Return uint8 [H, W, 3], the newest frame up to the tick's end, if it is young enough."""
        frames = self._frames.pop(tick, [])
        if frames:
            self._held = max(frames, key=lambda frame: frame[:2])
        if self._held is None:
            return None
        age_ns = (tick + 1) * self._tick_ns - self._held[0]
        return Sense(self._held[2], 1.0) if age_ns <= self._max_age_ns else None

    def first_tick(self) -> int | None:
        """Return the oldest tick with a frame in it."""
        return min(self._frames, default=None)
