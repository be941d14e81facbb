"""The film around an alarm is what the camera sent, framed from the alarm on."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from flows.clip import ClipFrame, webm_of


@pytest.mark.parametrize(("height_px", "width_px"), [(120, 160), (31, 33), (600, 800)])
def test_every_picture_is_in_it_and_only_later_ones_are_framed(
    height_px: int, width_px: int
) -> None:
    grey = np.full((height_px, width_px, 3), 128, np.uint8)
    frames = [ClipFrame(grey, is_after=n >= 3) for n in range(5)]
    with av.open(io.BytesIO(webm_of(frames, rate_hz=2.0)), "r") as film:
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(seen) == len(frames)
    is_red = [int(s[2, s.shape[1] // 2, 0]) - int(s[2, s.shape[1] // 2, 1]) > 80 for s in seen]
    assert is_red == [False, False, False, True, True]
    assert all(abs(int(s[s.shape[0] // 2, s.shape[1] // 2, 0]) - 128) < 12 for s in seen)
    assert np.all(grey == 128), "what is shown elsewhere stays as it was"
