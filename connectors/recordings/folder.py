"""A folder of recorded files as a device of a plant; with ``watch``, also what comes later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from connectors.recordings.reading import (
    event_times,
    film_frames,
    read_table,
    sound_chunks,
    telemetry_batches,
)
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS, AudioStream, Plant, TelemetryStream, VideoStream
from fusion.plant.devices import FilesDevice, FilmFilesDevice, SoundFilesDevice, TableFilesDevice
from fusion.ports import Clock, Observed, Unusable
from fusion.schema import AudioChunk, Payload, TelemetryBatch, VideoFrame

MAX_FILE_BYTES = 8 * 1024**3
MAX_TABLE_BYTES = 1024**3
MAX_TABLE_CELLS = 200_000_000
ROWS_PER_BATCH = 500


class FolderSession:
    """Implements :class:`fusion.ports.DeviceSession` for CSV, Parquet, WAV, FLAC and MP4.

    Files are taken in the order of their names, each once, by name: one that grows or is replaced
    after it was taken is not read again. A file that cannot be read is said to be unusable, and
    the next one is taken.

    Raises:
        DeviceUnavailableError: The folder is not there, as while its disk is not mounted.
    """

    def __init__(
        self, plant: Plant, device: FilesDevice, position: str | None, *, clock: Clock
    ) -> None:
        self._device = device
        self._stream = plant.stream(device.streams[0])
        self._clock = clock
        said = {} if position is None else json.loads(position)
        self._done: set[str] = set(said.get("done", ()))
        self._current: str | None = said.get("current")
        self._num_read: int = said.get("read", 0)
        self._t_next_ns: int | None = said.get("next_ns")
        self._t_file_ns: int | None = said.get("file_ns")
        self._payloads: Iterator[Payload] | None = None
        self._is_ended = False
        self._require_folder()

    @property
    def units(self) -> Mapping[str, str]:
        """Files state no units."""
        return {}

    @property
    def is_ended(self) -> bool:
        """Whether the last file was read, and nobody waits for more."""
        return self._is_ended

    @property
    def holds_until_ns(self) -> int | None:
        """A file says everything that it has to say."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return the next rows, chunk or frame; waits ``timeout_s`` when no file is there."""
        if self._payloads is None and not self._open_next():
            self._is_ended = not self._device.watch
            if not self._is_ended:
                self._clock.sleep(timeout_s)
            return []
        assert self._payloads is not None
        assert self._current is not None
        try:
            payload = next(self._payloads, None)
        except InputError as broken:
            return [self._give_up(broken)]
        if payload is None:
            self._finish()
            return []
        self._num_read += 1
        self._note_end(payload)
        return [_received(payload, self._clock.now_ns())]

    def position(self) -> str:
        """Return which files are done, and how much of the next one is."""
        return json.dumps(
            {
                "done": sorted(self._done),
                "current": self._current,
                "read": self._num_read,
                "next_ns": self._t_next_ns,
                "file_ns": self._t_file_ns,
            }
        )

    def close(self) -> None:
        """Close the file that is open."""
        payloads, self._payloads = self._payloads, None
        if isinstance(payloads, _Closable):
            payloads.close()

    def _open_next(self) -> bool:
        """Open what was begun before, or the next whole file; return False when there is none."""
        self._require_folder()
        found = self._found()
        self._done &= set(found)  # What is gone cannot come again by mistake.
        if self._current is not None and self._current not in found:
            self._current, self._num_read = None, 0
        name = self._current or next((n for n in sorted(found) if self._is_due(n, found[n])), None)
        if name is None:
            return False
        skipped = self._num_read if name == self._current else 0
        if name != self._current:
            self._current, self._num_read, self._t_file_ns = name, 0, None
        try:
            self._payloads = self._open(found[name])
            for _ in range(skipped):
                next(self._payloads, None)
        except InputError as broken:
            self._payloads = _broken(broken)
        return True

    def _found(self) -> dict[str, Path]:
        folder = self._device.folder
        return {
            path.relative_to(folder).as_posix(): path
            for pattern in self._device.patterns
            for path in folder.glob(pattern)
            if path.is_file()
        }

    def _is_due(self, name: str, path: Path) -> bool:
        if name in self._done:
            return False
        if not self._device.watch:
            return True
        age_ns = self._clock.now_ns() - path.stat().st_mtime_ns
        return age_ns >= self._device.settle_s * NANOSECONDS

    def _open(self, path: Path) -> Iterator[Payload]:
        num_bytes, device, stream = path.stat().st_size, self._device, self._stream
        limit = MAX_TABLE_BYTES if isinstance(device, TableFilesDevice) else MAX_FILE_BYTES
        if num_bytes > limit:
            raise InputError(
                f"{path.name} must have at most {limit} bytes, it has {num_bytes}; split it"
            )
        if isinstance(device, TableFilesDevice):
            assert isinstance(stream, TelemetryStream), "the plant file was checked"
            return _table_rows(path, device, stream)
        t_start_ns = self._start_ns(path, device)
        if isinstance(device, SoundFilesDevice):
            assert isinstance(stream, AudioStream), "the plant file was checked"
            return sound_chunks(
                stream,
                [path],
                t_start_ns=t_start_ns,
                chunk_s=device.chunk_s,
                channel=device.channel,
            )
        assert isinstance(stream, VideoStream), "the plant file was checked"
        return film_frames(stream, [path], t_start_ns=t_start_ns)

    def _start_ns(self, path: Path, device: SoundFilesDevice | FilmFilesDevice) -> int:
        if self._t_file_ns is not None:
            return self._t_file_ns
        if device.name_time_format is not None:
            try:
                start = datetime.strptime(path.stem, device.name_time_format)  # noqa: DTZ007 below
            except ValueError as other:
                raise InputError(
                    f"the name of {path.name} must say when it begins, as "
                    f"{device.name_time_format!r}, but: {other}; rename it, or correct "
                    "name_time_format"
                ) from other
            start = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
            self._t_file_ns = round(start.timestamp() * 1_000_000) * 1_000
        elif self._t_next_ns is not None:
            self._t_file_ns = self._t_next_ns
        else:
            assert device.start is not None, "the plant file was checked"
            self._t_file_ns = round(device.start.timestamp() * 1_000_000) * 1_000
        return self._t_file_ns

    def _note_end(self, payload: Payload) -> None:
        if isinstance(payload, AudioChunk):
            length_ns = len(payload.samples_N) * NANOSECONDS // payload.sample_rate_hz
            self._t_next_ns = payload.t_start_ns + length_ns
        elif isinstance(payload, VideoFrame):
            assert isinstance(self._stream, VideoStream)
            self._t_next_ns = payload.t_capture_ns + round(NANOSECONDS / self._stream.rate_hz)

    def _finish(self) -> None:
        assert self._current is not None
        self._done.add(self._current)
        self._payloads, self._current, self._num_read = None, None, 0

    def _give_up(self, broken: InputError) -> Unusable:
        self._finish()
        return Unusable(self._stream.name, str(broken))

    def _require_folder(self) -> None:
        if not self._device.folder.is_dir():
            raise DeviceUnavailableError(
                f"{self._device.name} reads the folder {self._device.folder}, and there is none; "
                "mount it, or correct folder in the plant file"
            )


_Closable = type(_ for _ in ())


def _broken(why: InputError) -> Iterator[Payload]:
    raise why
    yield


def _table_rows(
    path: Path, device: TableFilesDevice, stream: TelemetryStream
) -> Iterator[TelemetryBatch]:
    columns = {source.tag: source.column for source in device.columns}
    if path.suffix == ".parquet":
        _require_cells(path, num_columns=len(columns) + 1)
    rows = read_table(
        path, [device.time_column, *columns.values()], where={}, separator=device.separator
    )
    t_R_ns = event_times(rows[device.time_column], unit_s=device.time_unit_s)
    values_RC = np.full((rows.height, len(stream.tags)), np.nan)
    for index, tag in enumerate(stream.tags):
        if tag.name not in columns:
            continue
        column = rows[columns[tag.name]]
        if not (column.dtype.is_numeric() or column.dtype in {pl.Boolean, pl.Null}):
            raise InputError(
                f"column {column.name!r} of {path.name} must hold numbers, got {column.dtype}; "
                "correct the file, or the separator"
            )
        values_RC[:, index] = column.cast(pl.Float64).to_numpy()
    return telemetry_batches(stream, t_R_ns, values_RC, rows_per_batch=ROWS_PER_BATCH)


def _require_cells(path: Path, *, num_columns: int) -> None:
    try:
        num_rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as failed:
        raise InputError(f"{path.name} must be a Parquet file, but: {failed}") from failed
    if num_rows * num_columns > MAX_TABLE_CELLS:
        raise InputError(
            f"{path.name} must have at most {MAX_TABLE_CELLS} cells in the columns that are read, "
            f"it has {num_rows} rows of {num_columns}; split it"
        )


def _received(payload: Payload, t_ns: int) -> Payload:
    if isinstance(payload, TelemetryBatch):
        return replace(payload, t_receive_R_ns=np.full(len(payload.t_source_R_ns), t_ns, np.int64))
    return replace(payload, t_receive_ns=t_ns)
