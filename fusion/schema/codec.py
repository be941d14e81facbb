"""Payloads to bytes and back: Avro, with the columns of telemetry packed.

Sizes are checked before anything is decoded, so that a hostile or broken sender costs a dead
letter and not the memory of the process.

Shapes: R rows, C tags, N audio samples, H x W pixels. Packed columns are little-endian, row-major.
"""

from __future__ import annotations

import io
import math
from typing import Any

import fastavro
import numpy as np
import soundfile  # pyright: ignore[reportMissingTypeStubs] it has none
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from fusion.errors import DeadLetterReason, RecordError
from fusion.schema.payloads import AudioChunk, Payload, TelemetryBatch, VideoFrame
from fusion.schema.records import MAX_RECORD_BYTES, Envelope
from fusion.schema.registry import WriterSchemas
from fusion.schema.versions import NEWEST

MAX_TELEMETRY_CELLS = 1_000_000
MAX_AUDIO_SAMPLES = 60 * 192_000
MAX_PIXELS = 16_000_000

_INT16, _INT64, _FLOAT64 = np.dtype("<i2"), np.dtype("<i8"), np.dtype("<f8")
_UINT8, _UINT32 = np.dtype("u1"), np.dtype("<u4")

_RELEASED = WriterSchemas()


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
        "fusion.telemetry",
        {
            "tags": batch.tags,
            "num_rows": len(batch.t_source_R_ns),
            "t_source": batch.t_source_R_ns.astype(_INT64, copy=False).tobytes(),
            "t_server": batch.t_server_R_ns.astype(_INT64, copy=False).tobytes(),
            "t_receive": batch.t_receive_R_ns.astype(_INT64, copy=False).tobytes(),
            "values": batch.values_RC.astype(_FLOAT64, copy=False).tobytes(),
            "quality": batch.quality_RC.astype(_UINT8, copy=False).tobytes(),
            "status": batch.status_RC.astype(_UINT32, copy=False).tobytes(),
        },
    )


def encode_audio(chunk: AudioChunk, *, encoding: str = "FLAC") -> bytes:
    """Return the record value of an audio chunk; ``encoding`` is ``FLAC`` or ``PCM16``."""
    if encoding == "FLAC":
        sound = io.BytesIO()
        soundfile.write(sound, chunk.samples_N, chunk.sample_rate_hz, format="FLAC")
        data = sound.getvalue()
    else:
        data = chunk.samples_N.astype(_INT16, copy=False).tobytes()
    return _write(
        "fusion.audio",
        {
            "t_start_ns": chunk.t_start_ns,
            "sample_rate_hz": chunk.sample_rate_hz,
            "sample_index": chunk.sample_index,
            "gain_db": chunk.gain_db,
            "num_clipped": chunk.num_clipped,
            "num_samples": len(chunk.samples_N),
            "encoding": encoding,
            "data": data,
            "t_receive_ns": chunk.t_receive_ns,
        },
    )


def encode_video(frame: VideoFrame, *, quality: int = 85) -> bytes:
    """Return the record value of a frame, as JPEG of ``quality`` (1 to 95)."""
    picture = io.BytesIO()
    Image.fromarray(frame.pixels_HW3).save(picture, format="JPEG", quality=quality)
    height_px, width_px = frame.pixels_HW3.shape[:2]
    return _write(
        "fusion.video",
        {
            "t_capture_ns": frame.t_capture_ns,
            "width_px": width_px,
            "height_px": height_px,
            "encoding": "JPEG",
            "data": picture.getvalue(),
            "t_receive_ns": frame.t_receive_ns,
        },
    )


def decode_payload(
    envelope: Envelope,
    value: bytes,
    schemas: WriterSchemas | None = None,
    *,
    max_bytes: int = MAX_RECORD_BYTES,
) -> Payload:
    """Return what ``value`` carries, by the ``type`` of its envelope.

    ``schemas`` are those it may be written with; None is the released ones.

    Raises:
        RecordError: Too large, of another or an unknown schema, or not decodable; says which and
            what came.
    """
    if len(value) > max_bytes:
        raise RecordError(
            DeadLetterReason.TOO_LARGE,
            f"a record must not be larger than {max_bytes} bytes, got {len(value)}; "
            "send smaller batches or smaller frames",
        )
    decode = _DECODERS.get(envelope.type)
    if decode is None:
        raise RecordError(
            DeadLetterReason.WRONG_SCHEMA,
            "ce_type must be fusion.telemetry, fusion.audio or fusion.video, "
            f"got {envelope.type!r}; publish with fusion.plant.StreamSender",
        )
    return decode(envelope.stream, (schemas or _RELEASED).read(envelope.type, value))


def _write(ce_type: str, content: dict[str, Any]) -> bytes:
    schema = NEWEST[ce_type]
    buffer = io.BytesIO()
    buffer.write(schema.header)
    fastavro.schemaless_writer(  # pyright: ignore[reportUnknownMemberType]
        buffer, schema.parsed, content
    )
    return buffer.getvalue()


def _undecodable(must: str, came: object) -> RecordError:
    return RecordError(DeadLetterReason.UNDECODABLE, f"{must}, but: {came}; send it again whole")


def _column(
    content: dict[str, Any], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    data: bytes = content[name]
    if len(data) == math.prod(shape) * dtype.itemsize:
        return np.ndarray(shape, dtype, data)
    raise _undecodable(
        f"column {name!r} must hold {math.prod(shape) * dtype.itemsize} bytes for "
        f"{' x '.join(map(str, shape))} cells",
        f"it holds {len(data)}",
    )


def _decode_telemetry(stream: str, content: dict[str, Any]) -> TelemetryBatch:
    tags, num_rows = tuple(content["tags"]), int(content["num_rows"])
    if num_rows < 1 or not tags or num_rows * len(tags) > MAX_TELEMETRY_CELLS:
        raise _undecodable(
            f"a batch must hold 1 to {MAX_TELEMETRY_CELLS} cells",
            f"{num_rows} rows of {len(tags)} tags came",
        )
    if len(set(tags)) != len(tags):
        raise _undecodable("a batch must name each tag once", f"it names {sorted(tags)}")
    rows, cells = (num_rows,), (num_rows, len(tags))
    return TelemetryBatch(
        stream=stream,
        tags=tags,
        t_source_R_ns=_column(content, "t_source", _INT64, rows),
        t_server_R_ns=_column(content, "t_server", _INT64, rows),
        t_receive_R_ns=_column(content, "t_receive", _INT64, rows),
        values_RC=_column(content, "values", _FLOAT64, cells),
        quality_RC=_column(content, "quality", _UINT8, cells),
        status_RC=_column(content, "status", _UINT32, cells),
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
        samples_N = _column(content, "data", _INT16, (num_samples,))
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
        t_receive_ns=content["t_receive_ns"],
    )


def _decode_video(stream: str, content: dict[str, Any]) -> VideoFrame:
    width_px, height_px = content["width_px"], content["height_px"]
    try:
        # The class itself reads the headers only; Image.open would also warn of large pictures,
        # and warnings are the whole process's.
        with JpegImageFile(io.BytesIO(content["data"])) as picture:
            if picture.size != (width_px, height_px):
                raise _undecodable(
                    f"the JPEG must be {width_px} x {height_px} as announced",
                    f"it is {picture.width} x {picture.height}",
                )
            if width_px * height_px > MAX_PIXELS:
                raise _undecodable(
                    f"a frame must not have more than {MAX_PIXELS} pixels",
                    f"it has {width_px} x {height_px}",
                )
            # Pillow copies even where there is nothing to convert.
            rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
            pixels_HW3 = np.asarray(rgb)
    except (OSError, SyntaxError) as broken:
        raise _undecodable("the frame must be a whole JPEG", broken) from broken
    return VideoFrame(stream, content["t_capture_ns"], pixels_HW3, content["t_receive_ns"])


_DECODERS = {
    "fusion.telemetry": _decode_telemetry,
    "fusion.audio": _decode_audio,
    "fusion.video": _decode_video,
}
