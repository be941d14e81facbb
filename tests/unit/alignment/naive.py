"""A slow and obvious aligner: every value into its tick, one at a time, with the whole story known.

What came is a list of events in the order in which they were read: records, and streams that were
let go as idle. It returns the ticks and what became of each record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Outcome
from fusion.plant import AudioStream, Plant, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Payload, TelemetryBatch

NS = 1_000_000_000


@dataclass(frozen=True)
class Sent:
    """One record."""

    payload: Payload
    seq: int
    epoch: str = "boot"


@dataclass(frozen=True)
class LetGo:
    """The moment at which a stream was told idle."""

    stream: str


Event = Sent | LetGo


@dataclass(frozen=True)
class Tick:
    """What one tick must say; a stream that is not in ``senses`` was absent."""

    tick: int
    senses: dict[str, NDArray[np.generic]]
    usable: dict[str, float]


@dataclass
class _Stream:
    """What one stream has said so far."""

    lateness_ns: int
    newest_ns: int | None = None
    is_idle: bool = False
    seen: set[tuple[str, int]] = field(default_factory=set)
    cells: list[tuple[int, int, int, str, float]] = field(default_factory=list)
    """Usable telemetry: time, sequence number, row, tag, value."""
    samples: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sound: number of the sample since 1970 -> sequence number, value."""
    frames: list[tuple[int, int, NDArray[np.uint8]]] = field(default_factory=list)
    ticks: set[int] = field(default_factory=set)
    """The ticks in which something lies, usable or not."""


class NaiveAligner:
    """Judges each record as it comes, then fills every tick from all that was accepted."""

    def __init__(self, plant: Plant, *, context_ticks: int) -> None:
        self._plant = plant
        self._context_ticks = context_ticks
        self._closed: int | None = None
        self._streams: dict[str, _Stream] = {}
        for stream in plant.streams:
            lateness_s = stream.allowed_lateness_s
            if lateness_s is None:
                lateness_s = plant.allowed_lateness_s
            self._streams[stream.name] = _Stream(round(lateness_s * NS))

    def align(self, events: list[Event]) -> tuple[list[Tick], list[Outcome]]:
        """Return every tick, and the outcome of every record in the order of ``events``."""
        outcomes: list[Outcome] = []
        for event in events:
            if isinstance(event, LetGo):
                self._streams[event.stream].is_idle = True
            else:
                outcomes.append(self._judge(event))
            self._close()
        return self._ticks(), outcomes

    def _judge(self, sent: Sent) -> Outcome:
        stream = self._streams[sent.payload.stream]
        stream.is_idle = False
        if (sent.epoch, sent.seq) in stream.seen:
            return Outcome.DUPLICATE
        stream.seen.add((sent.epoch, sent.seq))
        first_open = self._frontier(stream)
        if self._closed is not None and self._closed > first_open:
            first_open = self._closed
        newest_ns, is_late = self._put(stream, sent, first_open)
        stream.newest_ns = (
            newest_ns if stream.newest_ns is None else max(stream.newest_ns, newest_ns)
        )
        return Outcome.LATE if is_late else Outcome.SCORED

    def _put(self, said: _Stream, sent: Sent, first_open: float) -> tuple[int, bool]:
        """Return the newest event time in the record, and whether none of it was in time."""
        stream = self._plant.stream(sent.payload.stream)
        offset_ns = round(stream.clock_offset_s * NS)
        is_by_receiver = stream.clock == "receive"
        payload = sent.payload
        if isinstance(payload, TelemetryBatch):
            stamps_R = {
                "source": payload.t_source_R_ns,
                "server": payload.t_server_R_ns,
                "receive": payload.t_receive_R_ns,
            }[stream.clock]
            times = [stamp_ns - offset_ns for stamp_ns in stamps_R.tolist()]
            return max(times), self._put_rows(said, sent.seq, payload, times, first_open)
        if isinstance(payload, AudioChunk):
            length_ns = len(payload.samples_N) * NS // payload.sample_rate_hz
            stamp_ns = payload.t_receive_ns - length_ns if is_by_receiver else payload.t_start_ns
            start_ns = stamp_ns - offset_ns
            is_late = self._put_samples(said, sent.seq, payload, start_ns, first_open)
            return start_ns + length_ns, is_late
        t_ns = (payload.t_receive_ns if is_by_receiver else payload.t_capture_ns) - offset_ns
        if t_ns // self._plant.tick_ns < first_open:
            return t_ns, True
        said.ticks.add(t_ns // self._plant.tick_ns)
        said.frames.append((t_ns, sent.seq, payload.pixels_HW3))
        return t_ns, False

    def _put_rows(
        self, said: _Stream, seq: int, batch: TelemetryBatch, times: list[int], first_open: float
    ) -> bool:
        is_late = True
        for row, t_ns in enumerate(times):
            tick = t_ns // self._plant.tick_ns
            if tick < first_open:
                continue
            is_late = False
            said.ticks.add(tick)
            for column, tag in enumerate(batch.tags):
                value = float(batch.values_RC[row, column])
                if batch.quality_RC[row, column] <= 1 and math.isfinite(value):
                    said.cells.append((t_ns, seq, row, tag, value))
        return is_late

    def _put_samples(
        self, said: _Stream, seq: int, chunk: AudioChunk, start_ns: int, first_open: float
    ) -> bool:
        is_late = True
        begin = math.floor(Fraction(start_ns * chunk.sample_rate_hz, NS) + Fraction(1, 2))
        per_tick = round(chunk.sample_rate_hz * self._plant.tick_s)
        for number, value in enumerate(chunk.samples_N.tolist(), begin):
            if number // per_tick < first_open:
                continue
            is_late = False
            said.ticks.add(number // per_tick)
            if number not in said.samples or said.samples[number][0] < seq:
                said.samples[number] = (seq, value)
        return is_late

    def _frontier(self, stream: _Stream) -> float:
        if stream.newest_ns is None:
            return -math.inf
        return (stream.newest_ns - stream.lateness_ns) // self._plant.tick_ns

    def _close(self) -> None:
        """Close all below the slowest stream that is awake, once something lies there."""
        awake = [self._frontier(s) for s in self._streams.values() if not s.is_idle]
        limit = min(awake, default=-math.inf)
        if limit == -math.inf:
            return
        if self._closed is not None:
            self._closed = max(self._closed, int(limit))
        elif any(tick < limit for tick in self._all_ticks()):
            self._closed = int(limit)

    def _all_ticks(self) -> set[int]:
        return {tick for stream in self._streams.values() for tick in stream.ticks}

    def _ticks(self) -> list[Tick]:
        """Every tick from the first to the last; silence longer than the context is left out."""
        said = self._all_ticks()
        if not said:
            return []
        ticks: list[Tick] = []
        num_empty, tick = 0, min(said)
        while tick <= max(said):
            if num_empty >= self._context_ticks:
                tick = min(other for other in said if other >= tick)
            ticks.append(self._fill(tick))
            num_empty = 0 if ticks[-1].senses else num_empty + 1
            tick += 1
        return ticks

    def _fill(self, tick: int) -> Tick:
        senses: dict[str, NDArray[np.generic]] = {}
        usable: dict[str, float] = {}
        for stream in self._plant.streams:
            said = self._streams[stream.name]
            if isinstance(stream, TelemetryStream):
                filled = self._telemetry(stream, said, tick)
            elif isinstance(stream, AudioStream):
                filled = self._sound(stream, said, tick)
            else:
                filled = self._picture(stream, said, tick)
            if filled is not None:
                senses[stream.name], usable[stream.name] = filled
        return Tick(tick, senses, usable)

    def _telemetry(
        self, stream: TelemetryStream, said: _Stream, tick: int
    ) -> tuple[NDArray[np.generic], float] | None:
        tick_ns, max_age_ns = self._plant.tick_ns, round(stream.max_age_s * NS)
        num_slots = max(1, round(stream.rate_hz * self._plant.tick_s))
        rows: list[list[float]] = []
        measured: list[bool] = []
        for slot in range(num_slots):
            end_ns = tick * tick_ns + Fraction((slot + 1) * tick_ns, num_slots)
            row: list[float] = []
            for tag in stream.tags:
                before = [c for c in said.cells if c[3] == tag.name and c[0] < end_ns]
                newest = max(before, key=lambda cell: cell[:3], default=None)
                is_young = newest is not None and math.floor(end_ns) - newest[0] <= max_age_ns
                row.append(newest[4] if newest is not None and is_young else math.nan)
                if not tag.setpoint:
                    measured.append(is_young)
            rows.append(row)
        if not any(measured):
            return None
        return np.array(rows, np.float32), sum(measured) / len(measured)

    def _sound(
        self, stream: AudioStream, said: _Stream, tick: int
    ) -> tuple[NDArray[np.generic], float] | None:
        per_tick = round(stream.sample_rate_hz * self._plant.tick_s)
        numbers = range(tick * per_tick, (tick + 1) * per_tick)
        heard = [number in said.samples for number in numbers]
        if sum(heard) / per_tick < 0.8:
            return None
        values = [said.samples.get(number, (0, 0))[1] for number in numbers]
        return np.array(values, np.int16), sum(heard) / per_tick

    def _picture(
        self, stream: VideoStream, said: _Stream, tick: int
    ) -> tuple[NDArray[np.generic], float] | None:
        end_ns = (tick + 1) * self._plant.tick_ns
        before = [frame for frame in said.frames if frame[0] < end_ns]
        newest = max(before, key=lambda frame: frame[:2], default=None)
        if newest is None or end_ns - newest[0] > round(stream.max_age_s * NS):
            return None
        if stream.frames_per_tick == 1:
            return newest[2], 1.0
        return self._clip(stream, said, tick)

    def _clip(
        self, stream: VideoStream, said: _Stream, tick: int
    ) -> tuple[NDArray[np.generic], float]:
        """Each part of the tick shows the newest young frame before its end, else the next one."""
        count, max_age_ns = stream.frames_per_tick, round(stream.max_age_s * NS)
        tick_ns = self._plant.tick_ns
        edges = [tick * tick_ns + part * tick_ns // count for part in range(count + 1)]
        ordered = sorted(said.frames, key=lambda frame: frame[:2])
        clip: list[NDArray[np.uint8]] = []
        num_own = 0
        for begin_ns, end_ns in pairwise(edges):
            past = [f for f in ordered if f[0] < end_ns and end_ns - f[0] <= max_age_ns]
            coming = [f for f in ordered if f[0] >= end_ns]
            clip.append(past[-1][2] if past else coming[0][2])
            num_own += any(begin_ns <= f[0] < end_ns for f in ordered)
        return np.stack(clip), num_own / count
