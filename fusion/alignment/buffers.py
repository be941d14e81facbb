"""What the streams have said about ticks that are still open; one buffer class per modality.

``add`` takes what lies in open ticks and returns which; ``take`` gives one tick, in tick order.
What a buffer gives does not depend on the order in which records came: ties in time are settled by
the sender's sequence number.

Shapes: R rows, C tags, S slots of a tick, N audio samples of a tick, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.alignment.by_tick import ByTick
from fusion.alignment.event_time import event_times_ns, frame_ns, sound_start_ns
from fusion.alignment.observation import rows_per_tick
from fusion.plant import NANOSECONDS, AudioStream, Plant, Stream, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Payload, Quality, TelemetryBatch, VideoFrame

MIN_AUDIO_COVERAGE = 0.8
"""A tick with less sound than this has none: its spectrum would be that of the holes."""

LONG_AGO_NS = np.iinfo(np.int64).min // 4
_WORST_USED = int(Quality.UNCERTAIN)


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

    def last_tick(self) -> int | None:
        """Return the newest tick that something lies in, None when all is empty."""
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
        slots_S = np.arange(1, self._num_slots + 1, dtype=np.int64)
        self._slot_end_S_ns = slots_S * self._tick_ns // self._num_slots
        self._max_age_ns = round(stream.max_age_s * NANOSECONDS)
        self._names = tuple(tag.name for tag in stream.tags)
        self._column = {name: index for index, name in enumerate(self._names)}
        self._is_measured_C = np.array([not tag.setpoint for tag in stream.tags])
        num_tags = len(stream.tags)
        self._held_C = np.full(num_tags, np.nan)
        self._held_at_C_ns = np.full(num_tags, LONG_AGO_NS, np.int64)
        self._parts = ByTick[_Rows]()

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the rows that lie in ``first_open`` or later, split by tick."""
        assert isinstance(payload, TelemetryBatch)
        t_R_ns = event_times_ns(payload, self._stream)
        first = last = int(t_R_ns[0]) // self._tick_ns
        if len(t_R_ns) > 1:
            first = int(t_R_ns.min()) // self._tick_ns
            last = int(t_R_ns.max()) // self._tick_ns
        if last < first_open:
            return None
        rows = _Rows(t_R_ns, seq, *self._in_plant_order(payload))
        if first == last:
            self._parts.add(first, rows)
            return Ticks(first, last)
        tick_R = t_R_ns // self._tick_ns
        ticks = [tick for tick in np.unique(tick_R).tolist() if tick >= first_open]
        for tick in ticks:
            self._parts.add(tick, rows.where(tick_R == tick))
        return Ticks(ticks[0], last)

    def take(self, tick: int) -> Sense | None:
        """Return float32 [S, C]: per slot the last usable value not older than the maximum age."""
        start_ns, num_slots = tick * self._tick_ns, self._num_slots
        # Row 0 is what was held before the tick.
        values_SC = np.full((num_slots + 1, len(self._names)), np.nan)
        at_SC_ns = np.full(values_SC.shape, LONG_AGO_NS, np.int64)
        values_SC[0], at_SC_ns[0] = self._held_C, self._held_at_C_ns
        parts = self._parts.pop(tick)
        if parts:
            t_R_ns, values_RC = _in_time_order(parts)
            slot_R = 1 + (t_R_ns - start_ns) * num_slots // self._tick_ns
            if (slot_R[1:] > slot_R[:-1]).all():
                values_SC[slot_R], at_SC_ns[slot_R] = values_RC, t_R_ns[:, None]
            else:
                row_K, tag_K = np.nonzero(np.isfinite(values_RC))
                # Rows are in time order; of repeated indices numpy keeps the last assignment.
                values_SC[slot_R[row_K], tag_K] = values_RC[row_K, tag_K]
                at_SC_ns[slot_R[row_K], tag_K] = t_R_ns[row_K]
        is_known_SC = np.isfinite(values_SC)
        if not is_known_SC[1:].all():
            filled_SC = np.where(is_known_SC, np.arange(num_slots + 1)[:, None], 0)
            np.maximum.accumulate(filled_SC, axis=0, out=filled_SC)
            values_SC = np.take_along_axis(values_SC, filled_SC, axis=0)
            at_SC_ns = np.take_along_axis(at_SC_ns, filled_SC, axis=0)
        self._held_C, self._held_at_C_ns = values_SC[-1].copy(), at_SC_ns[-1].copy()
        slot_end_S_ns = start_ns + self._slot_end_S_ns
        is_young_SC = slot_end_S_ns[:, None] - at_SC_ns[1:] <= self._max_age_ns
        values_SC = np.where(is_young_SC, values_SC[1:], np.nan)
        measured_SC = values_SC[:, self._is_measured_C]
        num_usable = int(np.count_nonzero(np.isfinite(measured_SC)))
        if num_usable == 0:
            return None
        return Sense(values_SC.astype(np.float32), num_usable / measured_SC.size)

    def first_tick(self) -> int | None:
        """Return the oldest tick with a row in it."""
        return self._parts.first()

    def last_tick(self) -> int | None:
        """Return the newest tick with a row in it."""
        return self._parts.last()

    def _in_plant_order(
        self, batch: TelemetryBatch
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Return values and qualities [R, C] with the tags in the order of the plant file."""
        if batch.tags == self._names:
            return batch.values_RC, batch.quality_RC
        columns = [self._column[tag] for tag in batch.tags]
        values_RC = np.full((len(batch.values_RC), len(self._names)), np.nan)
        quality_RC = np.full(values_RC.shape, Quality.NOT_REPORTED, np.uint8)
        values_RC[:, columns], quality_RC[:, columns] = batch.values_RC, batch.quality_RC
        return values_RC, quality_RC


class _Rows(NamedTuple):
    """Rows of one record, as they were sent: what is usable is asked once a tick, of all rows."""

    t_R_ns: NDArray[np.int64]
    seq: int
    values_RC: NDArray[np.float64]
    quality_RC: NDArray[np.uint8]

    def where(self, is_wanted_R: NDArray[np.bool_]) -> _Rows:
        t_R_ns, seq, values_RC, quality_RC = self
        return _Rows(t_R_ns[is_wanted_R], seq, values_RC[is_wanted_R], quality_RC[is_wanted_R])


def _in_time_order(parts: list[_Rows]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return times [R] and values [R, C], NaN where there is no usable one.

    Of rows of one time the later sent is last.
    """
    t_R_ns, _, values_RC, quality_RC = parts[0]
    if len(parts) > 1:
        t_R_ns = np.concatenate([rows.t_R_ns for rows in parts])
        values_RC = np.concatenate([rows.values_RC for rows in parts])
        quality_RC = np.concatenate([rows.quality_RC for rows in parts])
    is_usable_RC = np.isfinite(values_RC)
    is_usable_RC &= quality_RC <= _WORST_USED
    values_RC = np.where(is_usable_RC, values_RC, np.nan)
    if (t_R_ns[1:] > t_R_ns[:-1]).all():
        return t_R_ns, values_RC
    seq_R = np.concatenate([np.full(len(rows.t_R_ns), rows.seq) for rows in parts])
    order_R = np.lexsort((seq_R, t_R_ns))
    return t_R_ns[order_R], values_RC[order_R]


class AudioBuffer:
    """Pieces of sound of open ticks. Sound is never held: a tick has its own or none."""

    def __init__(self, stream: AudioStream, plant: Plant) -> None:
        self._stream = stream
        self._rate_hz = stream.sample_rate_hz
        self._num_samples = round(stream.sample_rate_hz * plant.tick_s)
        # pieces of (sequence number, first sample inside the tick, samples)
        self._pieces = ByTick[tuple[int, int, NDArray[np.int16]]]()

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the samples that lie in ``first_open`` or later, cut at the edges of ticks."""
        assert isinstance(payload, AudioChunk)
        # Samples are numbered from 1970 at the nominal rate: tick k starts at k * N exactly.
        start_ns = sound_start_ns(payload, self._stream)
        begin = (start_ns * self._rate_hz + NANOSECONDS // 2) // NANOSECONDS
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
            self._pieces.add(tick, (seq, piece_begin - tick_begin, samples))
        return Ticks(first, last)

    def take(self, tick: int) -> Sense | None:
        """Return int16 [N], holes silent; None when less than 80 % of the tick was heard."""
        samples_N = np.zeros(self._num_samples, np.int16)
        is_heard_N = np.zeros(self._num_samples, bool)
        for _, begin, piece in sorted(self._pieces.pop(tick), key=lambda piece: piece[:2]):
            samples_N[begin : begin + len(piece)] = piece
            is_heard_N[begin : begin + len(piece)] = True
        coverage = int(np.count_nonzero(is_heard_N)) / self._num_samples
        return Sense(samples_N, coverage) if coverage >= MIN_AUDIO_COVERAGE else None

    def first_tick(self) -> int | None:
        """Return the oldest tick with sound in it."""
        return self._pieces.first()

    def last_tick(self) -> int | None:
        """Return the newest tick with sound in it."""
        return self._pieces.last()


class _Frame(NamedTuple):
    """A picture in the order in which frames replace one another."""

    t_ns: int
    seq: int
    pixels_HW3: NDArray[np.uint8]


class VideoBuffer:
    """Frames of open ticks, and the newest frame before them."""

    def __init__(self, stream: VideoStream, plant: Plant) -> None:
        self._tick_ns = plant.tick_ns
        self._max_age_ns = round(stream.max_age_s * NANOSECONDS)
        self._stream = stream
        self._num_slots = stream.frames_per_tick
        self._held: _Frame | None = None
        self._frames = ByTick[_Frame]()

    def add(self, payload: Payload, *, seq: int, first_open: int) -> Ticks | None:
        """Keep the frame when it lies in ``first_open`` or later."""
        assert isinstance(payload, VideoFrame)
        t_ns = frame_ns(payload, self._stream)
        tick = t_ns // self._tick_ns
        if tick < first_open:
            return None
        self._frames.add(tick, _Frame(t_ns, seq, payload.pixels_HW3))
        return Ticks(tick, tick)

    def take(self, tick: int) -> Sense | None:
        """Return uint8 [H, W, 3], the newest frame up to the tick's end, if it is young enough.

        Of several frames per tick uint8 [F, H, W, 3]: the newest up to the end of each part of the
        tick. A part without a frame of its own repeats the one before it, and is not usable.
        """
        frames = sorted(self._frames.pop(tick), key=lambda frame: frame[:2])
        before, self._held = self._held, frames[-1] if frames else self._held
        if self._held is None or not self._is_young(self._held, (tick + 1) * self._tick_ns):
            return None
        if self._num_slots == 1:
            return Sense(self._held.pixels_HW3, 1.0)
        return self._clip(tick, before, frames)

    def _clip(self, tick: int, shown: _Frame | None, frames: list[_Frame]) -> Sense:
        """Return the clip of a tick that begins with ``shown``; not all of it can be too old."""
        clip: list[NDArray[np.uint8]] = []
        num_own = 0
        for slot in range(self._num_slots):
            begin_ns, end_ns = (
                tick * self._tick_ns + edge * self._tick_ns // self._num_slots
                for edge in (slot, slot + 1)
            )
            own = [frame for frame in frames if begin_ns <= frame.t_ns < end_ns]
            num_own += bool(own)
            shown = own[-1] if own else shown
            if shown is None or not self._is_young(shown, end_ns):
                # Nothing is to be seen yet: what comes next stands still until it comes.
                shown = next(frame for frame in frames if frame.t_ns >= end_ns)
            clip.append(shown.pixels_HW3)
        return Sense(np.stack(clip), num_own / self._num_slots)

    def _is_young(self, frame: _Frame, t_ns: int) -> bool:
        return t_ns - frame.t_ns <= self._max_age_ns

    def first_tick(self) -> int | None:
        """Return the oldest tick with a frame in it."""
        return self._frames.first()

    def last_tick(self) -> int | None:
        """Return the newest tick with a frame in it."""
        return self._frames.last()
