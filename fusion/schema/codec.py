"""Payloads to bytes and back: Avro, with the columns of telemetry packed.

Sizes are checked before anything is decoded, so that a hostile or broken sender costs a dead
letter and not the memory of the process.

Shapes: R rows, C tags, N audio samples, H x W pixels. Packed columns are little-endian, row-major.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import fastavro
import numpy as np
import soundfile  # pyright: ignore[reportMissingTypeStubs] it has none
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fusion.errors import DeadLetterReason, RecordError
from fusion.schema.payloads import AudioChunk, Payload, TelemetryBatch, VideoFrame
from fusion.schema.records import MAX_RECORD_BYTES, Envelope

MAX_TELEMETRY_CELLS = 1_000_000
MAX_AUDIO_SAMPLES = 60 * 192_000
MAX_PIXELS = 16_000_000

_TIMES = ("t_source", "t_server", "t_receive")

TELEMETRY_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "fusion.telemetry.v1",
        "fields": [
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "num_rows", "type": "int"},
            *({"name": name, "type": "bytes"} for name in _TIMES),
            {"name": "values", "type": "bytes", "doc": "float64, R x C"},
            {"name": "quality", "type": "bytes", "doc": "uint8, R x C"},
            {"name": "status", "type": "bytes", "doc": "uint32, R x C"},
        ],
    }
)
AUDIO_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "fusion.audio.v1",
        "fields": [
            {"name": "t_start_ns", "type": "long"},
            {"name": "sample_rate_hz", "type": "int"},
            {"name": "sample_index", "type": "long"},
            {"name": "gain_db", "type": "double"},
            {"name": "num_clipped", "type": "int"},
            {"name": "num_samples", "type": "int"},
            {
                "name": "encoding",
                "type": {"type": "enum", "name": "encoding", "symbols": ["FLAC", "PCM16"]},
            },
            {"name": "data", "type": "bytes"},
        ],
    }
)
VIDEO_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "fusion.video.v1",
        "fields": [
            {"name": "t_capture_ns", "type": "long"},
            {"name": "width_px", "type": "int"},
            {"name": "height_px", "type": "int"},
            {
                "name": "encoding",
                "type": {"type": "enum", "name": "picture", "symbols": ["JPEG"]},
            },
            {"name": "data", "type": "bytes"},
        ],
    }
)


def encode(payload: Payload) -> bytes:
    """Return the record value of ``payload``: FLAC inside for sound, JPEG inside for pictures.

    Example:
        >>> frame = VideoFrame("camera", 5, np.zeros((8, 8, 3), np.uint8))
        >>> envelope = Envelope("1", "cam", "fusion.video", "a/b/c/d/e/f/camera", "", 0, "boot")
        >>> decode_payload(envelope, encode(frame)).pixels_HW3.shape
        (8, 8, 3)
    """
    if isinstance(payload, TelemetryBatch):
        return encode_telemetry(payload)
    if isinstance(payload, AudioChunk):
        return encode_audio(payload)
    return encode_video(payload)


def encode_telemetry(batch: TelemetryBatch) -> bytes:
    """Return the record value of a telemetry batch."""
    return _write(
        TELEMETRY_SCHEMA,
        {
            "tags": list(batch.tags),
            "num_rows": len(batch.t_source_R_ns),
            "t_source": batch.t_source_R_ns.astype("<i8").tobytes(),
            "t_server": batch.t_server_R_ns.astype("<i8").tobytes(),
            "t_receive": batch.t_receive_R_ns.astype("<i8").tobytes(),
            "values": batch.values_RC.astype("<f8").tobytes(),
            "quality": batch.quality_RC.astype("u1").tobytes(),
            "status": batch.status_RC.astype("<u4").tobytes(),
        },
    )


def encode_audio(chunk: AudioChunk, *, encoding: str = "FLAC") -> bytes:
    """Return the record value of an audio chunk; ``encoding`` is ``FLAC`` or ``PCM16``."""
    if encoding == "FLAC":
        sound = io.BytesIO()
        soundfile.write(sound, chunk.samples_N, chunk.sample_rate_hz, format="FLAC")
        data = sound.getvalue()
    else:
        data = chunk.samples_N.astype("<i2").tobytes()
    return _write(
        AUDIO_SCHEMA,
        {
            "t_start_ns": chunk.t_start_ns,
            "sample_rate_hz": chunk.sample_rate_hz,
            "sample_index": chunk.sample_index,
            "gain_db": chunk.gain_db,
            "num_clipped": chunk.num_clipped,
            "num_samples": len(chunk.samples_N),
            "encoding": encoding,
            "data": data,
        },
    )


def encode_video(frame: VideoFrame, *, quality: int = 85) -> bytes:
    """Return the record value of a frame, as JPEG of ``quality`` (1 to 95)."""
    picture = io.BytesIO()
    Image.fromarray(frame.pixels_HW3).save(picture, format="JPEG", quality=quality)
    height_px, width_px = frame.pixels_HW3.shape[:2]
    return _write(
        VIDEO_SCHEMA,
        {
            "t_capture_ns": frame.t_capture_ns,
            "width_px": width_px,
            "height_px": height_px,
            "encoding": "JPEG",
            "data": picture.getvalue(),
        },
    )


def decode_payload(
    envelope: Envelope, value: bytes, *, max_bytes: int = MAX_RECORD_BYTES
) -> Payload:
    """Return what ``value`` carries, by the ``type`` of its envelope.

    Raises:
        RecordError: Too large, of another schema, or not decodable; says which and what came.
    """
    if len(value) > max_bytes:
        raise RecordError(
            DeadLetterReason.TOO_LARGE,
            f"a record must not be larger than {max_bytes} bytes, got {len(value)}; "
            "send smaller batches or smaller frames",
        )
    if envelope.type == "fusion.telemetry":
        return _decode_telemetry(envelope.stream, _read(TELEMETRY_SCHEMA, value))
    if envelope.type == "fusion.audio":
        return _decode_audio(envelope.stream, _read(AUDIO_SCHEMA, value))
    if envelope.type == "fusion.video":
        return _decode_video(envelope.stream, _read(VIDEO_SCHEMA, value))
    raise RecordError(
        DeadLetterReason.WRONG_SCHEMA,
        "ce_type must be fusion.telemetry, fusion.audio or fusion.video, "
        f"got {envelope.type!r}; publish with fusion.schema.StreamSender",
    )


def _write(schema: Any, content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, content)  # pyright: ignore[reportUnknownMemberType]
    return buffer.getvalue()


def _read(schema: Any, value: bytes) -> dict[str, Any]:
    buffer = io.BytesIO(value)
    try:
        content: Any = fastavro.schemaless_reader(  # pyright: ignore[reportUnknownMemberType]
            buffer, schema, None
        )
    except (EOFError, ValueError, IndexError, OverflowError, TypeError) as broken:
        came = f"reading stopped with {type(broken).__name__}: {broken}"
        raise _wrong_schema(schema, came) from broken
    if buffer.tell() != len(value):
        raise _wrong_schema(schema, f"{len(value) - buffer.tell()} bytes are left over")
    return content


def _wrong_schema(schema: Any, what_came: str) -> RecordError:
    return RecordError(
        DeadLetterReason.WRONG_SCHEMA,
        f"the value must be Avro of schema {schema['name']}, but {what_came}; "
        "encode it with fusion.schema.encode, or send the schema that the header names",
    )


def _undecodable(must: str, came: object) -> RecordError:
    return RecordError(DeadLetterReason.UNDECODABLE, f"{must}, but: {came}; send it again whole")


def _column(content: dict[str, Any], name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    data: bytes = content[name]
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise _undecodable(
            f"column {name!r} must hold {expected} bytes for {' x '.join(map(str, shape))} cells",
            f"it holds {len(data)}",
        )
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _decode_telemetry(stream: str, content: dict[str, Any]) -> TelemetryBatch:
    tags, num_rows = tuple(content["tags"]), int(content["num_rows"])
    if num_rows < 1 or not tags or num_rows * len(tags) > MAX_TELEMETRY_CELLS:
        raise _undecodable(
            f"a batch must hold 1 to {MAX_TELEMETRY_CELLS} cells",
            f"{num_rows} rows of {len(tags)} tags came",
        )
    if len(set(tags)) != len(tags):
        raise _undecodable("a batch must name each tag once", f"it names {sorted(tags)}")
    cells = (num_rows, len(tags))
    return TelemetryBatch(
        stream=stream,
        tags=tags,
        t_source_R_ns=_column(content, "t_source", "<i8", (num_rows,)),
        t_server_R_ns=_column(content, "t_server", "<i8", (num_rows,)),
        t_receive_R_ns=_column(content, "t_receive", "<i8", (num_rows,)),
        values_RC=_column(content, "values", "<f8", cells),
        quality_RC=_column(content, "quality", "u1", cells),
        status_RC=_column(content, "status", "<u4", cells),
    )


def _decode_audio(stream: str, content: dict[str, Any]) -> AudioChunk:
    num_samples = int(content["num_samples"])
    if not 0 < num_samples <= MAX_AUDIO_SAMPLES:
        raise _undecodable(
            f"a chunk must hold 1 to {MAX_AUDIO_SAMPLES} samples", f"it announces {num_samples}"
        )
    data: bytes = content["data"]
    samples_N: NDArray[np.int16]
    if content["encoding"] == "PCM16":
        samples_N = _column(content, "data", "<i2", (num_samples,))
    else:
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as sound:
                # One more than announced, so that a bomb is seen without being unpacked.
                heard: Any = sound.read(num_samples + 1, dtype="int16", always_2d=True)
                samples_N = heard[:, 0]
                rate_hz = sound.samplerate
        except (soundfile.SoundFileError, RuntimeError) as broken:
            raise _undecodable("the chunk must be FLAC", broken) from broken
        if len(samples_N) != num_samples or rate_hz != content["sample_rate_hz"]:
            raise _undecodable(
                f"the FLAC must hold the {num_samples} samples at {content['sample_rate_hz']} Hz "
                "that the record announces",
                f"it holds {len(samples_N)} (counted up to one more) at {rate_hz} Hz",
            )
    return AudioChunk(
        stream=stream,
        t_start_ns=content["t_start_ns"],
        sample_rate_hz=content["sample_rate_hz"],
        sample_index=content["sample_index"],
        gain_db=content["gain_db"],
        num_clipped=content["num_clipped"],
        samples_N=samples_N,
    )


def _decode_video(stream: str, content: dict[str, Any]) -> VideoFrame:
    try:
        with warnings.catch_warnings():
            # Pillow only warns of large pictures; here their size is checked before any decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content["data"]), formats=["JPEG"])
        with picture:
            width_px, height_px = picture.size
            if width_px * height_px > MAX_PIXELS:
                raise _undecodable(
                    f"a frame must not have more than {MAX_PIXELS} pixels",
                    f"it has {width_px} x {height_px}",
                )
            pixels_HW3 = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as broken:
        raise _undecodable("the frame must be a whole JPEG", broken) from broken
    if (width_px, height_px) != (content["width_px"], content["height_px"]):
        raise _undecodable(
            f"the JPEG must be {content['width_px']} x {content['height_px']} as announced",
            f"it is {width_px} x {height_px}",
        )
    return VideoFrame(stream, content["t_capture_ns"], pixels_HW3)
