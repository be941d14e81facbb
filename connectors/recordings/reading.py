"""Readers of recorded files: tables, sound files, films and tables of images.

Shapes: R rows, C columns (tags), N audio samples, H x W pixels. Times are nanoseconds UTC; times
without a zone are taken as UTC. A file is read once, front to back, and never held whole
except for the wanted columns of a table.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import polars as pl
import soundfile
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from PIL import Image

from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AudioStream, TelemetryStream, VideoStream
from fusion.schema import AudioChunk, Quality, TelemetryBatch, VideoFrame

Scalar = str | int | float | bool
MAX_PIXELS = 40_000_000
"""Of a picture as it is stored: more is refused before it is decoded."""
_PCM16 = np.iinfo(np.int16)


def read_table(
    path: Path,
    columns: Sequence[str],
    *,
    where: Mapping[str, Sequence[Scalar]],
    separator: str = ",",
) -> pl.DataFrame:
    """Return ``columns`` of the parquet or CSV file at ``path``, in the order of the file.

    ``where`` keeps the rows whose value is one of those given, for each of its columns.

    Raises:
        InputError: The file cannot be read, lacks a column, or has no such row.
    """
    _require_file(path)
    try:
        if path.suffix == ".parquet":
            table = pl.scan_parquet(path)
        else:
            table = pl.scan_csv(path, separator=separator, try_parse_dates=True)
        known = table.collect_schema().names()
        unknown = sorted({*columns, *where} - set(known))
        if unknown:
            raise InputError(
                f"{path.name} must have the columns {unknown}; it has {known}; "
                "correct the names in the replay plan"
            )
        wanted = [pl.col(name).is_in(list(values)) for name, values in where.items()]
        rows = table.filter(*wanted).select(list(dict.fromkeys(columns))).collect()
    except pl.exceptions.PolarsError as failed:
        raise InputError(
            f"{path.name} must be a readable {path.suffix} table, but: {failed}; "
            "check the file, its separator and the types of the values in where"
        ) from failed
    if rows.is_empty():
        raise InputError(
            f"{path.name} must have rows where {dict(where)}, and none is there; change where"
        )
    return rows


def event_times(column: pl.Series, *, unit_s: float | None) -> NDArray[np.int64]:
    """Return the times of ``column`` [R] in nanoseconds UTC; numbers count ``unit_s`` from 1970.

    Raises:
        InputError: A time is missing, runs backwards, or the column holds no times.

    Example:
        >>> event_times(pl.Series([0, 1, 3]), unit_s=0.1).tolist()
        [0, 100000000, 300000000]
    """
    if column.null_count():
        raise InputError(
            f"{column.name!r} must give every row a time, {column.null_count()} lack it"
        )
    if isinstance(column.dtype, pl.Datetime):
        times_R = column.dt.timestamp("ns").to_numpy()
    elif unit_s is not None and column.dtype.is_integer():
        times_R = column.cast(pl.Int64).to_numpy() * round(unit_s * NANOSECONDS)
    elif unit_s is not None and column.dtype.is_float():
        if not column.is_finite().all():
            raise InputError(f"{column.name!r} must hold finite numbers; correct the file")
        times_R = np.round(column.to_numpy() * (unit_s * NANOSECONDS)).astype(np.int64)
    else:
        raise InputError(
            f"{column.name!r} must hold times, or numbers with time_unit_s, got {column.dtype}; "
            "name the column of times, or leave time_column out to space rows by rate_hz"
        )
    backwards_R = np.flatnonzero(np.diff(times_R) < 0)
    if backwards_R.size:
        raise InputError(
            f"{column.name!r} must not run backwards, but row {backwards_R[0] + 1} lies before "
            "the row above it; give segment_by where the file holds several runs, or sort it"
        )
    return times_R.astype(np.int64)


def telemetry_batches(
    stream: TelemetryStream,
    t_R_ns: NDArray[np.int64],
    values_RC: NDArray[np.float64],
    *,
    rows_per_batch: int,
) -> Iterator[TelemetryBatch]:
    """Yield the rows in batches; a value that is NaN was not reported. C is the stream's tags."""
    tags = tuple(tag.name for tag in stream.tags)
    quality_RC = np.where(np.isnan(values_RC), Quality.NOT_REPORTED, Quality.GOOD).astype(np.uint8)
    status_RC = np.zeros(values_RC.shape, np.uint32)
    for start in range(0, len(t_R_ns), rows_per_batch):
        rows = slice(start, start + rows_per_batch)
        times = t_R_ns[rows]
        yield TelemetryBatch(
            stream.name,
            tags,
            times,
            times,
            times,
            values_RC[rows],
            quality_RC[rows],
            status_RC[rows],
        )


def sound_chunks(
    stream: AudioStream,
    paths: Sequence[Path],
    *,
    t_start_ns: int,
    chunk_s: float = 0.5,
    channel: int = 0,
) -> Iterator[AudioChunk]:
    """Yield one channel of the sound files (FLAC, WAV, OGG), one file after another on one clock.

    Raises:
        InputError: A file cannot be read, has another sample rate, or lacks the channel.
    """
    num_sent = 0
    for path in paths:
        _require_file(path)
        try:
            with soundfile.SoundFile(path) as sound:
                if sound.samplerate != stream.sample_rate_hz or channel >= sound.channels:
                    raise InputError(
                        f"{path.name} must have {stream.sample_rate_hz} Hz and channel {channel}, "
                        f"got {sound.samplerate} Hz and {sound.channels} channels; change "
                        f"sample_rate_hz of the stream {stream.name!r}, or channel in the plan"
                    )
                blocks = sound.blocks(
                    round(chunk_s * sound.samplerate), dtype="int16", always_2d=True
                )
                for block in blocks:
                    samples_N = np.ascontiguousarray(block[:, channel], dtype=np.int16)
                    is_clipped_N = (samples_N == _PCM16.max) | (samples_N == _PCM16.min)
                    yield AudioChunk(
                        stream=stream.name,
                        t_start_ns=t_start_ns + num_sent * NANOSECONDS // stream.sample_rate_hz,
                        sample_rate_hz=stream.sample_rate_hz,
                        sample_index=num_sent,
                        gain_db=0.0,
                        num_clipped=int(is_clipped_N.sum()),
                        samples_N=samples_N,
                    )
                    num_sent += len(samples_N)
        except soundfile.SoundFileError as failed:
            raise InputError(f"{path.name} must be a sound file, but: {failed}") from failed


def film_frames(
    stream: VideoStream,
    paths: Sequence[Path],
    *,
    t_start_ns: int,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[VideoFrame]:
    """Yield the frames of films (MP4, GIF ...), one film after another, in the stream's size.

    Inside a film its own times hold; frames that come faster than ``rate_hz`` are left out.

    Raises:
        InputError: A file cannot be decoded, or its pictures have more than ``max_pixels``.
    """
    for path in paths:
        _require_file(path)
        time_s, last_slot = 0.0, -1
        try:
            with av.open(path, metadata_errors="replace") as film:
                _require_pixels(path, film, max_pixels)
                for frame in film.decode(video=0):
                    time_s = frame.time or 0.0
                    # The first frame of each slot; where the rates are equal, rounding costs none.
                    slot = math.floor(time_s * stream.rate_hz + 1e-3)
                    if slot <= last_slot:
                        continue
                    last_slot = slot
                    pixels_HW3 = frame.to_ndarray(
                        format="rgb24",
                        width=stream.width_px,
                        height=stream.height_px,
                        interpolation="AREA",
                    )
                    t_capture_ns = t_start_ns + round(time_s * NANOSECONDS)
                    yield VideoFrame(
                        stream.name, t_capture_ns, pixels_HW3.astype(np.uint8, copy=False)
                    )
        except (FFmpegError, IndexError) as failed:
            raise InputError(f"{path.name} must be a film, but: {failed}") from failed
        t_start_ns += round((time_s + 1 / stream.rate_hz) * NANOSECONDS)


def image_frames(
    stream: VideoStream, images: Sequence[bytes], *, t_start_ns: int
) -> Iterator[VideoFrame]:
    """Yield encoded ``images`` (WebP, PNG, JPEG ...), ``1 / rate_hz`` apart, in the stream's size.

    Raises:
        InputError: An image cannot be decoded.
    """
    size = (stream.width_px, stream.height_px)
    for index, encoded in enumerate(images):
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                resized = image.convert("RGB").resize(size, Image.Resampling.BOX)
        except OSError as failed:
            raise InputError(f"image {index} must be decodable, but: {failed}") from failed
        t_capture_ns = t_start_ns + round(index * NANOSECONDS / stream.rate_hz)
        yield VideoFrame(stream.name, t_capture_ns, np.asarray(resized))


def find_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files below ``folder`` that match ``patterns``, sorted inside each pattern.

    Raises:
        InputError: A pattern matches no file.
    """
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if not found:
            raise InputError(
                f"{pattern!r} must match files below the recordings' folder, and none is there; "
                "give the right folder with --data, or correct the plan"
            )
        files += found
    return files


def _require_pixels(path: Path, film: InputContainer, max_pixels: int) -> None:
    for video in film.streams.video:
        # (PyAV's types do not say so, but a damaged header can leave a track without a codec.)
        context: VideoCodecContext | None = video.codec_context
        if context is None:
            raise InputError(
                f"the pictures of {path.name} must be coded in a way that this machine knows, and "
                "the file does not say how they are; it is damaged, record it again"
            )
        if context.width * context.height > max_pixels:
            raise InputError(
                f"pictures of {path.name} must have at most {max_pixels} pixels, they are "
                f"{context.width} x {context.height}; scale the film down"
            )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"the recording {path} must be a file, and none is there; give the folder of the "
            "recordings with --data or FUSION_SHARED_DATA"
        )
