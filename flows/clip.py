"""A short film of single pictures, for a page: WebM with VP9, which browsers play by themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

WIDTH_PX = 480
FRAME_PX = 6
ABNORMAL_RGB = (200, 30, 20)


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One picture, 8 bits RGB; those from the alarm on are framed."""

    pixels_HW3: NDArray[np.uint8]
    is_after: bool


def webm_of(frames: Sequence[ClipFrame], *, rate_hz: float) -> bytes:
    """Return ``frames`` as a film of ``rate_hz`` pictures a second.

    It is made larger without smoothing: what is seen is what the camera has sent.
    """
    height_px, width_px = frames[0].pixels_HW3.shape[:2]
    scale = max(1, WIDTH_PX // width_px)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as film:
        stream = film.add_stream("libvpx-vp9", rate=Fraction(rate_hz).limit_denominator(1000))
        # VP9 with 4:2:0 colour has even sides only.
        stream.width, stream.height = width_px * scale // 2 * 2, height_px * scale // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"}
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(_framed(frame, scale), format="rgb24").reformat(
                width=stream.width, height=stream.height, interpolation=Interpolation.POINT
            )
            film.mux(stream.encode(shown))
        film.mux(stream.encode())
    return buffer.getvalue()


def _framed(frame: ClipFrame, scale: int) -> NDArray[np.uint8]:
    """Return the picture made larger, with a frame once the alarm is raised."""
    large = frame.pixels_HW3.repeat(scale, axis=0).repeat(scale, axis=1)
    if frame.is_after:
        for edge in (np.s_[:FRAME_PX], np.s_[-FRAME_PX:]):
            large[edge, :] = ABNORMAL_RGB
            large[:, edge] = ABNORMAL_RGB
    return large
