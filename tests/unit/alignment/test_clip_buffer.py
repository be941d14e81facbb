"""The frames of a tick, by example: what each part of it shows, and how much of it is its own."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.alignment.buffers import buffer_for
from fusion.plant import Plant, parse_plant
from fusion.schema import VideoFrame

MS = 1_000_000
PLANT: Plant = parse_plant(
    """
prefix: seen
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1.0
streams:
  - {name: eye, modality: video, rate_hz: 4, width_px: 16, height_px: 16, frames_per_tick: 4,
     max_age_s: 1.2}
""",
    origin="seen.yaml",
)


def clip(sent_ms: list[int], tick: int = 5) -> tuple[list[int], float] | None:
    """Return which frame each quarter of ``tick`` shows, and the usable share.

    Frame N is sent N-th, at ``sent_ms`` after the tick's beginning.
    """
    buffer = buffer_for(PLANT.streams[0], PLANT)
    for number, at_ms in enumerate(sent_ms):
        t_ns = (tick * 1_000 + at_ms) * MS
        pixels_HW3 = np.full((16, 16, 3), number, np.uint8)
        frame = VideoFrame("eye", t_ns, pixels_HW3, t_receive_ns=t_ns)
        buffer.add(frame, seq=number, first_open=0)
    for before in range(tick):
        buffer.take(before)
    said = buffer.take(tick)
    return None if said is None else (said.values[:, 0, 0, 0].tolist(), said.usable)


@pytest.mark.parametrize(
    ("sent_ms", "shown", "usable"),
    [
        ([100, 350, 600, 850], [0, 1, 2, 3], 1.0),
        ([850, 100, 600, 350], [1, 3, 2, 0], 1.0),  # in any order
        ([100, 600], [0, 0, 1, 1], 0.5),  # what is missing repeats the one before
        ([0, 40, 80, 120, 350, 600, 850], [3, 4, 5, 6], 1.0),  # of more, the newest of each part
        ([-100, 600], [0, 0, 1, 1], 0.25),  # the last tick's newest is held
        ([-900, 900], [0, 1, 1, 1], 0.25),  # and not for longer than its age
        ([600, 850], [0, 0, 0, 1], 0.5),  # nothing before: the first one stands still
        ([-100], [0, 0, 0, 0], 0.0),
    ],
)
def test_each_part_shows_its_newest_frame(
    sent_ms: list[int], shown: list[int], usable: float
) -> None:
    assert clip(sent_ms) == (shown, usable)


@pytest.mark.parametrize("sent_ms", [[], [-300], [-2_000]])
def test_a_tick_whose_newest_frame_is_too_old_has_none(sent_ms: list[int]) -> None:
    assert clip(sent_ms) is None
