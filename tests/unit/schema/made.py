"""Payloads for the tests of the schemas, and values written without the codec."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fusion.schema import AudioChunk, TelemetryBatch, VideoFrame
from fusion.schema.versions import HEADER_BYTES, RELEASED, PayloadSchema

INT64 = np.iinfo(np.int64)


def written(schema: PayloadSchema, fields: dict[str, Any]) -> bytes:
    """Return the value with these fields; those that the schema has not are left out."""
    buffer = io.BytesIO()
    buffer.write(schema.header)
    fastavro.schemaless_writer(buffer, schema.parsed, fields)
    return buffer.getvalue()


def schema_of(value: bytes) -> PayloadSchema:
    """Return the released schema that ``value`` is written with."""
    (schema,) = (each for each in RELEASED if each.header == value[:HEADER_BYTES])
    return schema


def fields_of(value: bytes) -> dict[str, Any]:
    """Return what ``value`` holds, in the terms of its own schema."""
    body = io.BytesIO(value[HEADER_BYTES:])
    fields: Any = fastavro.schemaless_reader(body, schema_of(value).parsed, None)
    return fields


def changed(value: bytes, **changes: Any) -> bytes:
    """Return ``value`` with other fields in the same schema."""
    return written(schema_of(value), fields_of(value) | changes)


def chunk(samples_N: NDArray[np.int16]) -> AudioChunk:
    return AudioChunk("sense", 5, 8000, 7, -3.5, 2, samples_N, 9)


def frame(height_px: int = 24, width_px: int = 32) -> VideoFrame:
    return VideoFrame("sense", 11, np.full((height_px, width_px, 3), 90, np.uint8), 13)


def telemetry() -> TelemetryBatch:
    t_R_ns = np.arange(3, dtype=np.int64)
    return TelemetryBatch(
        "sense",
        ("a", "b"),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.zeros((3, 2)),
        np.zeros((3, 2), np.uint8),
        np.zeros((3, 2), np.uint32),
    )


@st.composite
def batches(draw: st.DrawFn) -> TelemetryBatch:
    tags = tuple(draw(st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True)))
    num_rows = draw(st.integers(1, 5))
    times = hnp.arrays(np.int64, num_rows, elements=st.integers(INT64.min, INT64.max))
    cells = (num_rows, len(tags))
    return TelemetryBatch(
        "sense",
        tags,
        draw(times),
        draw(times),
        draw(times),
        draw(hnp.arrays(np.float64, cells, elements=st.floats())),
        draw(hnp.arrays(np.uint8, cells)),
        draw(hnp.arrays(np.uint32, cells)),
    )


@st.composite
def chunks(draw: st.DrawFn) -> AudioChunk:
    long, count = st.integers(INT64.min, INT64.max), st.integers(0, 2**31 - 1)
    return AudioChunk(
        "sense",
        draw(long),
        draw(st.sampled_from([8_000, 16_000, 44_100, 48_000])),
        draw(long),
        draw(st.floats(allow_nan=False)),
        draw(count),
        draw(hnp.arrays(np.int16, st.integers(1, 60))),
        draw(long),
    )


@st.composite
def frames(draw: st.DrawFn) -> VideoFrame:
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)), 3)
    pixels_HW3 = np.full(size, draw(st.integers(0, 255)), np.uint8)
    times = st.integers(INT64.min, INT64.max)
    return VideoFrame("sense", draw(times), pixels_HW3, draw(times))
