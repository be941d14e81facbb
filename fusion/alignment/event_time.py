"""Event time: which of a record's stamps counts, and what its stream's clock is declared to be off.

Everything that asks when something happened asks here. The declared ``clock_offset_s`` is
subtracted; an estimated one never is (see :mod:`fusion.alignment.clocks`).

Shapes: R rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.plant import NANOSECONDS, Stream
from fusion.schema import AudioChunk, Payload, TelemetryBatch, VideoFrame


class Stamps(NamedTuple):
    """What a record says of time, in ns UTC."""

    newest_ns: int
    """The event time up to which the record tells something."""
    receive_ns: int
    """When the edge received that; 0 where the payload does not say."""


def event_times_ns(batch: TelemetryBatch, stream: Stream) -> NDArray[np.int64]:
    """Return the event time of every row [R], by the clock that the plant trusts for ``stream``."""
    if stream.clock == "source":
        t_R_ns = batch.t_source_R_ns
    elif stream.clock == "server":
        t_R_ns = batch.t_server_R_ns
    else:
        t_R_ns = batch.t_receive_R_ns
    offset_ns = stream.clock_offset_ns
    return t_R_ns - offset_ns if offset_ns else t_R_ns


def sound_start_ns(chunk: AudioChunk, stream: Stream) -> int:
    """Return the event time of the first sample.

    A receiver stamps a chunk once its last sample is there: the first lies its length before.
    """
    if stream.clock == "receive":
        return chunk.t_receive_ns - _length_ns(chunk) - stream.clock_offset_ns
    return chunk.t_start_ns - stream.clock_offset_ns


def frame_ns(frame: VideoFrame, stream: Stream) -> int:
    """Return the event time of a frame."""
    t_ns = frame.t_receive_ns if stream.clock == "receive" else frame.t_capture_ns
    return t_ns - stream.clock_offset_ns


def stamps(payload: Payload, stream: Stream) -> Stamps:
    """Return the newest event time in ``payload``, and when that was received."""
    if isinstance(payload, TelemetryBatch):
        t_R_ns = event_times_ns(payload, stream)
        newest = t_R_ns.argmax() if len(t_R_ns) > 1 else 0
        return Stamps(int(t_R_ns[newest]), int(payload.t_receive_R_ns[newest]))
    if isinstance(payload, AudioChunk):
        return Stamps(sound_start_ns(payload, stream) + _length_ns(payload), payload.t_receive_ns)
    return Stamps(frame_ns(payload, stream), payload.t_receive_ns)


def _length_ns(chunk: AudioChunk) -> int:
    return len(chunk.samples_N) * NANOSECONDS // chunk.sample_rate_hz
