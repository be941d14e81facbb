"""Turns a replay plan into the payloads of a plant, in event-time order, and the truth beside them.

Shapes: R rows, C tags.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AwareDatetime

from connectors.recordings import (
    event_times,
    film_frames,
    find_files,
    image_frames,
    read_table,
    sound_chunks,
    telemetry_batches,
)
from flows.replay_plan import (
    FilmRecording,
    ImagesRecording,
    ReplayPlan,
    SoundRecording,
    TableRecording,
    load_plan,
)
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AudioStream, Plant, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Payload, TelemetryBatch


@dataclass(frozen=True, slots=True)
class Segment:
    """One run of a table on its own clock: an experiment, a machining cycle."""

    name: str
    recording: TableRecording
    rows: pl.DataFrame
    t_R_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Replay:
    """A plan, its plant and the folder of its recordings: everything needed to play it."""

    plan: ReplayPlan
    plant: Plant
    folder: Path

    def payloads(self) -> Iterator[Payload]:
        """Yield the payloads of all streams, in the order in which they would have been sent.

        Raises:
            InputError: A recording does not hold what the plan says.
        """
        segments = self._segments()
        streams: list[Iterator[Payload]] = [
            _batches(stream, segments, tick_s=self.plant.tick_s)
            for stream in self.plant.telemetry_streams
        ]
        streams += [self._play(each) for each in self.plan.streams if each.kind != "table"]
        merged = heapq.merge(*streams, key=sent_ns)
        return merged if self.plan.duration_s is None else _first(merged, self.plan.duration_s)

    def truth(self) -> pl.DataFrame:
        """Return stream, segment, row, t_event_ns and the plan's labels of every row of the tables.

        ``row`` counts from 0 in each segment, in the order of the file: what is known of a row of
        the recording (an official split, a label) joins what was said at its event time.
        """
        tables = [
            pl.DataFrame(
                {
                    "stream": segment.recording.stream,
                    "segment": segment.name,
                    "row": np.arange(len(segment.t_R_ns)),
                    "t_event_ns": segment.t_R_ns,
                }
            ).hstack(segment.rows.select(segment.recording.labels))
            for segment in self._segments()
        ]
        return pl.concat(tables, how="diagonal") if tables else pl.DataFrame()

    def _segments(self) -> list[Segment]:
        """Return the runs of all tables, each with its place in event time."""
        tables = [each for each in self.plan.streams if isinstance(each, TableRecording)]
        runs = [run for table in tables for run in self._runs(table)]
        # Recordings with times of their own keep their distances when the plan moves them.
        timed = [int(run.t_R_ns[0]) for run in runs if run.recording.time_column is not None]
        shift_ns = 0 if self.plan.start is None or not timed else self._start_ns - min(timed)
        moved = [
            run if run.recording.time_column is None else replace(run, t_R_ns=run.t_R_ns + shift_ns)
            for run in runs
        ]
        return [
            segment
            for stream in self.plant.telemetry_streams
            for segment in place([run for run in moved if run.recording.stream == stream.name])
        ]

    def _runs(self, table: TableRecording) -> Iterator[Segment]:
        stream = self.plant.stream(table.stream)
        assert isinstance(stream, TelemetryStream), "load_plan has checked the kinds"
        extra = [name for name in (table.time_column, table.segment_by) if name is not None]
        columns = [*_columns(stream, table), *extra, *table.labels]
        rows = read_table(
            self.folder / table.file, columns, where=table.where, separator=table.separator
        )
        parts = (
            {(Path(table.file).stem,): rows}
            if table.segment_by is None
            else rows.partition_by(table.segment_by, maintain_order=True, as_dict=True)
        )
        for (name,), part in list(parts.items()) * table.repeat:
            own = part if table.first_rows is None else part.head(table.first_rows)
            if table.time_column is None:
                t_R_ns = self._start_ns + spaced_ns(own.height, stream.rate_hz)
            else:
                t_R_ns = event_times(own[table.time_column], unit_s=table.time_unit_s)
            yield Segment(str(name), table, own, t_R_ns)

    def _play(
        self, recording: SoundRecording | FilmRecording | ImagesRecording
    ) -> Iterator[Payload]:
        stream = self.plant.stream(recording.stream)
        if isinstance(recording, SoundRecording):
            assert isinstance(stream, AudioStream), "load_plan has checked the kinds"
            return sound_chunks(
                stream,
                find_files(self.folder, recording.files) * recording.repeat,
                t_start_ns=self._start_ns,
                chunk_s=recording.chunk_s,
                channel=recording.channel,
            )
        assert isinstance(stream, VideoStream), "load_plan has checked the kinds"
        path = self.folder / recording.file
        if isinstance(recording, FilmRecording):
            return film_frames(stream, [path] * recording.repeat, t_start_ns=self._start_ns)
        table = read_table(path, [recording.image_column], where=recording.where)
        images = table[recording.image_column].to_list() * recording.repeat
        return image_frames(stream, images, t_start_ns=self._start_ns)

    @property
    def _start_ns(self) -> int:
        """The plan's start; the plan was refused if a recording needs one and none is given."""
        if self.plan.start is None:
            return 0
        return round(self.plan.start.timestamp() * 1_000_000) * 1_000


def load_replay(
    plan_path: Path, *, data: Path | None = None, start: AwareDatetime | None = None
) -> Replay:
    """Return the replay that the plan file describes.

    ``data`` is the folder of the recordings, ``start`` moves the plan to another event time: a
    broker that has already seen these times would take what comes again for late.

    Raises:
        InputError: The plan breaks a rule, or nobody says where the recordings lie.
    """
    plan, plant = load_plan(plan_path)
    if start is not None:
        plan = plan.model_copy(update={"start": start})
    if data is not None:
        return Replay(plan, plant, data)
    if plan.recordings is None:
        raise InputError(
            f"{plan_path.name} plays recordings that are not shipped with the product; give the "
            "folder that holds them with --data or FUSION_SHARED_DATA"
        )
    return Replay(plan, plant, plan_path.parent / plan.recordings)


def sent_ns(payload: Payload) -> int:
    """Return the event time at which ``payload`` was complete and could be sent, in ns UTC."""
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[-1])
    if isinstance(payload, AudioChunk):
        length_ns = len(payload.samples_N) * NANOSECONDS // payload.sample_rate_hz
        return payload.t_start_ns + length_ns
    return payload.t_capture_ns


def spaced_ns(num_rows: int, rate_hz: float) -> NDArray[np.int64]:
    """Return ``num_rows`` times from 0, ``1 / rate_hz`` apart, in nanoseconds.

    Example:
        >>> spaced_ns(3, 10.0).tolist()
        [0, 100000000, 200000000]
    """
    return np.round(np.arange(num_rows) * (NANOSECONDS / rate_hz)).astype(np.int64)


def place(runs: Sequence[Segment]) -> list[Segment]:
    """Return the runs of one stream one after another, none overlapping another.

    A run keeps its own times where it starts after the run before it has ended; otherwise it is
    moved to ``gap_s`` after that end.
    """
    placed: list[Segment] = []
    for run in sorted(runs, key=lambda run: int(run.t_R_ns[0])):
        shift_ns = 0
        if placed and run.t_R_ns[0] <= placed[-1].t_R_ns[-1]:
            gap_ns = round(run.recording.gap_s * NANOSECONDS)
            shift_ns = int(placed[-1].t_R_ns[-1]) + gap_ns - int(run.t_R_ns[0])
        placed.append(replace(run, t_R_ns=run.t_R_ns + shift_ns))
    return placed


def _columns(stream: TelemetryStream, table: TableRecording) -> list[str]:
    return [table.columns.get(tag.name, tag.name) for tag in stream.tags]


def _batches(
    stream: TelemetryStream, segments: Sequence[Segment], *, tick_s: float
) -> Iterator[TelemetryBatch]:
    # One batch a tick, as a gateway would send them.
    rows_per_batch = max(1, round(stream.rate_hz * tick_s))
    for segment in segments:
        if segment.recording.stream != stream.name:
            continue
        columns = _columns(stream, segment.recording)
        try:
            values_RC = segment.rows.select(pl.col(columns).cast(pl.Float64)).to_numpy()
        except pl.exceptions.PolarsError as failed:
            raise InputError(
                f"{segment.recording.file} must hold numbers in {columns}, but: {failed}"
            ) from failed
        yield from telemetry_batches(
            stream, segment.t_R_ns, values_RC, rows_per_batch=rows_per_batch
        )


def _first(payloads: Iterator[Payload], duration_s: float) -> Iterator[Payload]:
    first = next(payloads, None)
    if first is None:
        return
    end_ns = sent_ns(first) + round(duration_s * NANOSECONDS)
    yield first
    yield from takewhile(lambda payload: sent_ns(payload) <= end_ns, payloads)
