"""What is encoded comes back; what is broken becomes a RecordError that says what must hold."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from fusion.errors import DeadLetterReason, RecordError
from fusion.schema import AudioChunk, Envelope, Payload, TelemetryBatch, VideoFrame, encode
from fusion.schema.codec import MAX_PIXELS, decode_payload, encode_audio
from fusion.schema.records import MAX_RECORD_BYTES
from fusion.schema.versions import NEWEST, RELEASED
from tests.unit.schema.made import batches, changed, chunk, fields_of, frame, telemetry

TYPES = ("fusion.telemetry", "fusion.audio", "fusion.video")
ACCEPTED_OR_BROKEN = {
    None,
    DeadLetterReason.WRONG_SCHEMA,
    DeadLetterReason.UNKNOWN_SCHEMA,
    DeadLetterReason.UNDECODABLE,
}
INT64 = np.iinfo(np.int64)


def envelope(ce_type: str) -> Envelope:
    return Envelope("1", "test", ce_type, "e/s/a/l/c/x/sense", "", 0, "boot")


def decode(ce_type: str, value: bytes) -> Payload:
    return decode_payload(envelope(ce_type), value)


def refused(ce_type: str, value: bytes) -> RecordError:
    with pytest.raises(RecordError) as caught:
        decode(ce_type, value)
    return caught.value


def reason_of(ce_type: str, value: bytes) -> DeadLetterReason | None:
    try:
        decode(ce_type, value)
    except RecordError as error:
        return error.reason
    return None


TELEMETRY = encode(telemetry())
SOUND = encode(chunk(np.arange(500, dtype=np.int16)))
PICTURE = encode(frame())


@settings(deadline=None)
@given(batches())
def test_telemetry_comes_back_bit_for_bit(batch: TelemetryBatch) -> None:
    back = decode("fusion.telemetry", encode(batch))
    assert isinstance(back, TelemetryBatch)
    assert back.tags == batch.tags
    for name in (
        "t_source_R_ns",
        "t_server_R_ns",
        "t_receive_R_ns",
        "values_RC",
        "quality_RC",
        "status_RC",
    ):
        assert getattr(back, name).tobytes() == getattr(batch, name).tobytes()


@settings(deadline=None)
@given(
    hnp.arrays(np.int16, st.integers(1, 400)),
    st.sampled_from(["FLAC", "PCM16"]),
    st.integers(INT64.min, INT64.max),
    st.integers(INT64.min, INT64.max),
    st.floats(allow_nan=False),
)
def test_sound_comes_back_bit_for_bit(
    samples_N: NDArray[np.int16],
    encoding: str,
    t_start_ns: int,
    t_receive_ns: int,
    gain_db: float,
) -> None:
    sent = replace(
        chunk(samples_N), t_start_ns=t_start_ns, t_receive_ns=t_receive_ns, gain_db=gain_db
    )
    back = decode("fusion.audio", encode_audio(sent, encoding=encoding))
    assert isinstance(back, AudioChunk)
    assert back.samples_N.tolist() == samples_N.tolist()
    assert replace(back, samples_N=samples_N) == sent


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.integers(0, INT64.max))
def test_a_picture_comes_back_as_near_as_jpeg_gets(
    height_px: int, width_px: int, shade: int, t_capture_ns: int
) -> None:
    pixels_HW3 = np.full((height_px, width_px, 3), shade, np.uint8)
    back = decode("fusion.video", encode(VideoFrame("sense", t_capture_ns, pixels_HW3, 17)))
    assert isinstance(back, VideoFrame)
    assert (back.stream, back.t_capture_ns, back.t_receive_ns) == ("sense", t_capture_ns, 17)
    assert back.pixels_HW3.shape == pixels_HW3.shape
    assert np.abs(back.pixels_HW3.astype(int) - shade).max() <= 3


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(TYPES),
    st.sampled_from([b"", *(schema.header for schema in RELEASED)]),
    st.binary(max_size=300),
)
def test_any_bytes_give_a_payload_or_a_record_error(
    ce_type: str, header: bytes, body: bytes
) -> None:
    assert reason_of(ce_type, header + body) in ACCEPTED_OR_BROKEN


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(list(zip(TYPES, (TELEMETRY, SOUND, PICTURE), strict=True))),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=6),
)
def test_damaged_records_give_a_payload_or_a_record_error(
    sent: tuple[str, bytes], at: int, damage: bytes
) -> None:
    ce_type, value = sent
    begin = at % len(value)
    broken = value[:begin] + damage + value[begin + len(damage) :]
    assert reason_of(ce_type, broken) in ACCEPTED_OR_BROKEN


def test_a_truncated_jpeg_is_undecodable() -> None:
    whole: bytes = fields_of(PICTURE)["data"]
    error = refused("fusion.video", changed(PICTURE, data=whole[: len(whole) // 2]))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "the frame must be a whole JPEG" in str(error)


def test_a_picture_of_another_size_than_announced_is_undecodable() -> None:
    error = refused("fusion.video", changed(PICTURE, width_px=33))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "must be 33 x 24 as announced, but: it is 32 x 24" in str(error)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    data: bytes = fields_of(PICTURE)["data"]
    at = data.index(b"\xff\xc0") + 5
    bomb = data[:at] + struct.pack(">HH", 5_000, 4_000) + data[at + 4 :]
    error = refused(
        "fusion.video",
        changed(PICTURE, data=bomb, height_px=5_000, width_px=4_000),
    )
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert f"not have more than {MAX_PIXELS} pixels" in str(error)
    assert "4000 x 5000" in str(error)


@pytest.mark.parametrize("side_px", [10_000, 65_535])
def test_a_far_too_large_picture_is_undecodable(side_px: int) -> None:
    data: bytes = fields_of(PICTURE)["data"]
    at = data.index(b"\xff\xc0") + 5
    bomb = data[:at] + struct.pack(">HH", side_px, side_px) + data[at + 4 :]
    huge = changed(PICTURE, data=bomb, width_px=side_px, height_px=side_px)
    error = refused("fusion.video", huge)
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert f"not have more than {MAX_PIXELS} pixels" in str(error)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_picture_in_other_colours_becomes_rgb(mode: str) -> None:
    picture = io.BytesIO()
    Image.new(mode, (32, 24)).save(picture, format="JPEG")
    back = decode("fusion.video", changed(PICTURE, data=picture.getvalue()))
    assert isinstance(back, VideoFrame)
    assert back.pixels_HW3.shape == (24, 32, 3)


def test_a_corrupt_flac_is_undecodable() -> None:
    error = refused("fusion.audio", changed(SOUND, data=b"fLaC" + bytes(60)))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "the chunk must be FLAC" in str(error)


def test_a_flac_longer_than_announced_is_undecodable() -> None:
    bomb = io.BytesIO()
    soundfile.write(bomb, np.zeros(100_000, np.int16), 8000, format="FLAC")
    error = refused("fusion.audio", changed(SOUND, data=bomb.getvalue()))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "must hold the 500 samples" in str(error)
    assert "it holds 501 (counted up to one more)" in str(error)


def test_a_flac_at_another_rate_than_announced_is_undecodable() -> None:
    error = refused("fusion.audio", changed(SOUND, sample_rate_hz=16_000))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "16000 Hz that the record announces" in str(error)


@pytest.mark.parametrize("num_samples", [0, -1, 2**31 - 1])
def test_a_chunk_must_announce_a_sane_number_of_samples(num_samples: int) -> None:
    error = refused("fusion.audio", changed(SOUND, num_samples=num_samples))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "a chunk must hold 1 to" in str(error)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("t_source", 24),
        ("t_server", 24),
        ("t_receive", 24),
        ("values", 48),
        ("quality", 6),
        ("status", 24),
    ],
)
def test_a_column_of_the_wrong_length_is_named(column: str, expected: int) -> None:
    error = refused("fusion.telemetry", changed(TELEMETRY, **{column: b"abc"}))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert f"column {column!r} must hold {expected} bytes" in str(error)
    assert "it holds 3" in str(error)


@pytest.mark.parametrize("num_rows", [0, -3, 2**31 - 1])
def test_a_batch_must_hold_a_sane_number_of_cells(num_rows: int) -> None:
    error = refused("fusion.telemetry", changed(TELEMETRY, num_rows=num_rows))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "a batch must hold 1 to" in str(error)


def test_a_batch_that_names_a_tag_twice_is_undecodable() -> None:
    error = refused("fusion.telemetry", changed(TELEMETRY, tags=["a", "a"]))
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "name each tag once" in str(error)


@pytest.mark.parametrize("ce_type", TYPES)
def test_bytes_of_another_schema_name_the_schema_that_must_be(ce_type: str) -> None:
    error = refused(ce_type, NEWEST[ce_type].header + b"\xff" * 11)
    assert error.reason is DeadLetterReason.WRONG_SCHEMA
    assert f"must be Avro of {ce_type} in single-object encoding" in str(error)
    assert f"reading it as {NEWEST[ce_type].label} stopped with" in str(error)


@pytest.mark.parametrize("value", [b"", b"\xc3", TELEMETRY[:9], b"\xc3\x02" + TELEMETRY[2:]])
def test_a_value_without_mark_and_fingerprint_is_the_wrong_schema(value: bytes) -> None:
    error = refused("fusion.telemetry", value)
    assert error.reason is DeadLetterReason.WRONG_SCHEMA
    assert f"it begins with {value[:10].hex() or 'nothing'}" in str(error)


def test_a_value_of_another_type_than_its_envelope_says_is_the_wrong_schema() -> None:
    error = refused("fusion.video", SOUND)
    assert error.reason is DeadLetterReason.WRONG_SCHEMA
    assert f"it is written with {NEWEST['fusion.audio'].label}" in str(error)


def test_an_unknown_writer_schema_is_named_with_what_to_do() -> None:
    error = refused("fusion.video", PICTURE[:2] + bytes(range(8)) + PICTURE[10:])
    assert error.reason is DeadLetterReason.UNKNOWN_SCHEMA
    assert "writer schema 0001020304050607 must be known" in str(error)
    assert "publish it on the plant's topic of schemas" in str(error)


def test_bytes_left_over_are_the_wrong_schema() -> None:
    error = refused("fusion.telemetry", TELEMETRY + b"xyz")
    assert error.reason is DeadLetterReason.WRONG_SCHEMA
    assert "3 bytes are left over" in str(error)


def test_another_type_is_the_wrong_schema() -> None:
    error = refused("fusion.smell", TELEMETRY)
    assert error.reason is DeadLetterReason.WRONG_SCHEMA
    assert "ce_type must be fusion.telemetry, fusion.audio or fusion.video" in str(error)
    assert "'fusion.smell'" in str(error)


@pytest.mark.parametrize("ce_type", [*TYPES, "fusion.smell"])
def test_a_record_that_is_too_large_is_not_decoded(ce_type: str) -> None:
    error = refused(ce_type, bytes(MAX_RECORD_BYTES + 1))
    assert error.reason is DeadLetterReason.TOO_LARGE
    assert f"must not be larger than {MAX_RECORD_BYTES} bytes" in str(error)


@pytest.mark.parametrize(
    "name", sorted(set(envelope("fusion.audio").to_headers()) - {"ce_specversion"})
)
def test_a_missing_header_is_named(name: str) -> None:
    headers = {k: v for k, v in envelope("fusion.audio").to_headers().items() if k != name}
    with pytest.raises(RecordError, match=f"must carry the header '{name}'") as caught:
        Envelope.from_headers(headers)
    assert caught.value.reason is DeadLetterReason.HEADERS


@pytest.mark.parametrize("seq", ["", "seven", "1.5", "9" * 5_000])
def test_a_seq_that_is_no_whole_number_is_refused(seq: str) -> None:
    headers = envelope("fusion.audio").to_headers() | {"seq": seq}
    with pytest.raises(RecordError, match="'seq' must be a whole number") as caught:
        Envelope.from_headers(headers)
    assert caught.value.reason is DeadLetterReason.HEADERS
