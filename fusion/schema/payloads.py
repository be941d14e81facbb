"""The three payloads that plants send, decoded.

Shapes: R rows (time stamps), C tags of the stream, N audio samples, H x W pixels.
Times are nanoseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """Quality of one value, in the order of growing distrust.

    GOOD, UNCERTAIN and BAD are OPC UA's severities (Part 8); STALE is Sparkplug B's; NOT_REPORTED
    fills the cells of a batch whose tag sent nothing at that row.
    """

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    STALE = 3
    NOT_REPORTED = 4


@dataclass(frozen=True, slots=True)
class TelemetryBatch:
    """Rows of one group of tags. A cell that is not GOOD or UNCERTAIN has no usable value."""

    stream: str
    tags: tuple[str, ...]
    t_source_R_ns: NDArray[np.int64]
    t_server_R_ns: NDArray[np.int64]
    t_receive_R_ns: NDArray[np.int64]
    values_RC: NDArray[np.float64]
    quality_RC: NDArray[np.uint8]
    status_RC: NDArray[np.uint32]
    """The raw status of the protocol (OPC UA StatusCode); 0 where there is none."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Consecutive samples of one microphone. ``sample_index`` counts from the sender's start."""

    stream: str
    t_start_ns: int
    sample_rate_hz: int
    sample_index: int
    gain_db: float
    num_clipped: int
    samples_N: NDArray[np.int16]
    t_receive_ns: int = 0
    """When the host received it, by the host's clock; 0 where nobody said."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame of one camera, RGB."""

    stream: str
    t_capture_ns: int
    pixels_HW3: NDArray[np.uint8]
    t_receive_ns: int = 0
    """When the host received it, by the host's clock; 0 where nobody said."""


Payload = TelemetryBatch | AudioChunk | VideoFrame
