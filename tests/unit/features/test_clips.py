"""A stream with several frames per tick: what it says, and that one frame is as it always was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusion.alignment import Observation
from fusion.errors import PlantError
from fusion.features import extract, fit_normaliser, layout_of
from fusion.manifest import TrainedStream, trained_streams
from fusion.plant import Plant, parse_plant

TEXT = """
prefix: seen
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: eye, modality: video, rate_hz: 8, width_px: 32, height_px: 24}
"""


def plant(num_frames: int) -> Plant:
    return parse_plant(
        TEXT.replace("height_px: 24", f"height_px: 24, frames_per_tick: {num_frames}"),
        origin="seen.yaml",
    )


def test_what_is_not_asked_for_changes_no_fingerprint_and_no_manifest() -> None:
    before, now = parse_plant(TEXT, origin="seen.yaml"), plant(1)
    assert "frames_per_tick" not in json.loads(before.model_dump_json())["streams"][0]
    assert before.fingerprint() == now.fingerprint() != plant(4).fingerprint()
    (trained,) = trained_streams(now)
    old = trained.model_dump(exclude={"frames_per_tick"})
    assert TrainedStream.model_validate(old) == trained
    assert trained != trained_streams(plant(4))[0]


@pytest.mark.parametrize("num_frames", [5, 17])
def test_a_clip_has_no_more_frames_than_the_camera_gives(num_frames: int) -> None:
    with pytest.raises(PlantError, match="frames_per_tick"):
        plant(num_frames)


def clips(num_frames: int) -> list[Observation]:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (12, num_frames, 24, 32, 3)).astype(np.uint8)
    shown = pixels[:, 0] if num_frames == 1 else pixels
    return [Observation(i, {"eye": clip}, {"eye": 1.0}) for i, clip in enumerate(shown)]


def test_a_clip_keeps_its_frames_in_order_and_is_read_off_the_newest() -> None:
    described, seen = plant(4), clips(4)
    (stream,) = layout_of(described).streams
    features = extract(seen, described, fit_normaliser(seen, described))
    assert features.inputs["eye"].shape == (12, *stream.input_shape) == (12, 4, 3, 48, 64)
    turned = [Observation(o.tick, {"eye": o.senses["eye"][[2, 1, 0, 3]]}, o.usable) for o in seen]
    backwards = extract(turned, described, fit_normaliser(seen, described))
    np.testing.assert_allclose(
        backwards.inputs["eye"], features.inputs["eye"][:, [2, 1, 0, 3]], atol=1e-6
    )
    np.testing.assert_array_equal(backwards.readings_NR, features.readings_NR)


def test_a_clip_that_stands_still_is_the_picture_four_times() -> None:
    one, pictures = plant(1), clips(1)
    still = [
        Observation(o.tick, {"eye": np.stack([o.senses["eye"]] * 4)}, o.usable) for o in pictures
    ]
    picture = extract(pictures, one, fit_normaliser(pictures, one))
    clip = extract(still, plant(4), fit_normaliser(still, plant(4)))
    for frame in range(4):
        np.testing.assert_allclose(clip.inputs["eye"][:, frame], picture.inputs["eye"], atol=1e-4)
    np.testing.assert_allclose(clip.readings_NR, picture.readings_NR, atol=1e-5)


def test_one_tick_is_like_many() -> None:
    described, seen = plant(4), clips(4)
    normaliser = fit_normaliser(seen, described)
    together = extract(seen, described, normaliser)
    alone = extract(seen[3:4], described, normaliser)
    np.testing.assert_allclose(alone.inputs["eye"][0], together.inputs["eye"][3], atol=1e-5)
