"""Readers of recorded files, against files made on the spot."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from connectors.recordings import (
    event_times,
    film_frames,
    find_files,
    image_frames,
    read_table,
    sound_chunks,
    telemetry_batches,
)
from fusion.errors import InputError
from fusion.plant import AudioStream, Tag, TelemetryStream, VideoStream
from fusion.schema import Quality

MICROPHONE = AudioStream(name="sound", modality="audio", sample_rate_hz=8_000)
CAMERA = VideoStream(name="camera", modality="video", rate_hz=5, width_px=32, height_px=16)
TAGS = (Tag(name="a", unit="1", range=(0, 9)), Tag(name="b", unit="1", range=(0, 9)))
RIG = TelemetryStream(name="rig", modality="telemetry", rate_hz=1, tags=TAGS)


@pytest.fixture
def table(tmp_path: Path) -> pl.DataFrame:
    table = pl.DataFrame(
        {"run": ["x", "y", "x", "z"], "n": [1, 2, 3, 4], "v": [0.5, 1.5, 2.5, 3.5]}
    )
    table.write_parquet(tmp_path / "table.parquet")
    table.write_csv(tmp_path / "table.csv", separator=";")
    return table


@pytest.mark.parametrize(("name", "separator"), [("table.parquet", ","), ("table.csv", ";")])
def test_reads_the_wanted_rows_in_the_order_of_the_file(
    table: pl.DataFrame, tmp_path: Path, name: str, separator: str
) -> None:
    where = {"run": ("x", "z"), "n": (3, 4)}
    rows = read_table(tmp_path / name, ["v", "n", "v"], where=where, separator=separator)
    assert rows.equals(table[2:].select("v", "n"))


@pytest.mark.parametrize(
    ("columns", "where", "message"),
    [
        (["w"], {}, r"must have the columns \['w'\]; it has \['run', 'n', 'v'\]"),
        (["v"], {"phase": (1,)}, r"must have the columns \['phase'\]"),
        (["v"], {"run": ("q",)}, r"must have rows where .* none is there"),
        (["v"], {"run": (1,)}, r"must be a readable .parquet table"),
    ],
)
@pytest.mark.usefixtures("table")
def test_says_what_a_table_lacks(
    tmp_path: Path, columns: list[str], where: dict[str, tuple[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "table.parquet", columns, where=where)


def test_says_where_a_missing_file_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.parquet must be a file.*--data"):
        read_table(tmp_path / "nothing.parquet", ["v"], where={})


def test_refuses_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"must be a readable \.parquet table"):
        read_table(tmp_path / "broken.parquet", ["v"], where={})


def test_times_without_a_zone_are_utc() -> None:
    column = pl.Series("t", ["1970-01-01T00:00:01", "1970-01-01T00:00:02"]).str.to_datetime()
    assert event_times(column, unit_s=None).tolist() == [1_000_000_000, 2_000_000_000]


@given(st.lists(st.integers(0, 10**6), min_size=1).map(sorted))
def test_counted_times_are_exact(counts: list[int]) -> None:
    assert event_times(pl.Series(counts), unit_s=0.1).tolist() == [n * 10**8 for n in counts]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], "1 lack it"),
        ([3, 2], "row 1 lies before the row above"),
        (["early"], "must hold times, or numbers"),
        ([float("nan")], "must hold finite numbers"),
    ],
)
def test_refuses_columns_that_are_no_clock(values: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        event_times(pl.Series("t", values), unit_s=1.0)


def test_batches_mark_what_was_not_reported() -> None:
    values_RC = np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, 4.0]])
    batches = list(telemetry_batches(RIG, np.arange(3), values_RC, rows_per_batch=2))
    assert [len(batch.t_source_R_ns) for batch in batches] == [2, 1]
    assert batches[0].quality_RC.tolist() == [[Quality.GOOD, Quality.NOT_REPORTED], [0, 0]]
    assert batches[0].tags == ("a", "b")
    np.testing.assert_array_equal(np.vstack([b.values_RC for b in batches]), values_RC)


@given(chunk_s=st.sampled_from([0.1, 0.25, 0.5, 3.0]))
def test_sound_files_run_on_one_clock(
    tmp_path_factory: pytest.TempPathFactory, chunk_s: float
) -> None:
    folder = tmp_path_factory.mktemp("sound")
    samples_N = np.random.default_rng(0).integers(-(2**15), 2**15, 9_000).astype(np.int16)
    soundfile.write(folder / "1.flac", samples_N[:5_000], 8_000)
    soundfile.write(folder / "2.wav", np.stack([samples_N[5_000:]] * 2, axis=1), 8_000)
    files = find_files(folder, ["*.flac", "*.wav"])

    chunks = list(sound_chunks(MICROPHONE, files, t_start_ns=7, chunk_s=chunk_s, channel=0))
    np.testing.assert_array_equal(np.concatenate([c.samples_N for c in chunks]), samples_N)
    for chunk in chunks:
        assert chunk.t_start_ns == 7 + chunk.sample_index * 125_000
    ends = np.cumsum([len(c.samples_N) for c in chunks])
    assert [c.sample_index for c in chunks] == [0, *ends[:-1].tolist()]


def test_sound_counts_clipped_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", np.array([32767, -32768, 5], np.int16), 8_000)
    (chunk,) = sound_chunks(MICROPHONE, [tmp_path / "1.wav"], t_start_ns=0)
    assert chunk.num_clipped == 2


def test_refuses_sound_of_another_rate_or_kind(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", np.zeros(10, np.int16), 16_000)
    (tmp_path / "2.wav").write_bytes(b"hiss")
    with pytest.raises(InputError, match=r"must have 8000 Hz and channel 0, got 16000 Hz"):
        list(sound_chunks(MICROPHONE, [tmp_path / "1.wav"], t_start_ns=0))
    with pytest.raises(InputError, match=r"2\.wav must be a sound file"):
        list(sound_chunks(MICROPHONE, [tmp_path / "2.wav"], t_start_ns=0))


def test_refuses_patterns_that_match_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'x/[*]' must match files"):
        find_files(tmp_path, ["x/*"])


def _film(path: Path, *, rate_hz: int, num_frames: int) -> None:
    with av.open(path, "w") as film:
        stream = film.add_stream("mpeg4", rate=rate_hz)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(num_frames):
            pixels_HW3 = np.full((48, 64, 3), index * 8, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")))
        film.mux(stream.encode())


@pytest.mark.parametrize(("rate_hz", "num_kept"), [(5, 20), (10, 10), (20, 5)])
def test_films_are_thinned_to_the_streams_rate(tmp_path: Path, rate_hz: int, num_kept: int) -> None:
    _film(tmp_path / "film.mp4", rate_hz=rate_hz, num_frames=20)
    frames = list(film_frames(CAMERA, [tmp_path / "film.mp4"], t_start_ns=100))
    assert [frame.t_capture_ns for frame in frames] == [
        100 + n * 10**9 // 5 for n in range(num_kept)
    ]
    assert {frame.pixels_HW3.shape for frame in frames} == {(16, 32, 3)}


def test_films_follow_one_another(tmp_path: Path) -> None:
    _film(tmp_path / "film.mp4", rate_hz=5, num_frames=10)
    frames = list(film_frames(CAMERA, [tmp_path / "film.mp4"] * 3, t_start_ns=0))
    assert [frame.t_capture_ns for frame in frames] == [n * 10**9 // 5 for n in range(30)]


def test_refuses_files_that_are_no_film(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"nothing to see")
    with pytest.raises(InputError, match=r"film\.mp4 must be a film"):
        list(film_frames(CAMERA, [tmp_path / "film.mp4"], t_start_ns=0))


def test_images_are_spaced_and_resized() -> None:
    pixels_HW3 = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels_HW3).save(encoded, "WEBP", lossless=True)
    frames = list(image_frames(CAMERA, [encoded.getvalue()] * 3, t_start_ns=5))
    assert [frame.t_capture_ns for frame in frames] == [5, 200_000_005, 400_000_005]
    assert frames[0].pixels_HW3.shape == (16, 32, 3)
    assert abs(frames[0].pixels_HW3.mean() - pixels_HW3.mean()) < 1


def test_refuses_images_that_are_none() -> None:
    with pytest.raises(InputError, match="image 0 must be decodable"):
        list(image_frames(CAMERA, [b"RIFF"], t_start_ns=0))
