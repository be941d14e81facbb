"""Features: one tick is like many, absence is absence, set-points stay out of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment import Observation
from fusion.features import extract, fit_normaliser, layout_of, log_mel, shrink
from fusion.features.extraction import MAX_DEVIATIONS
from fusion.plant import Plant, parse_plant

RATE_HZ = 4_000
PLANT_TEXT = """
prefix: trio
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [0, 1]},
      {name: wanted, unit: m, range: [0, 2], setpoint: true},
      {name: heat, unit: K, range: [0, 500]}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 32, height_px: 24}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="trio.yaml")
FINE = parse_plant(
    PLANT_TEXT.replace("range: [0, 1]}", "range: [0, 1], resolution: 0.001}"), origin="trio.yaml"
)
LAYOUT = layout_of(PLANT)


def observation(tick: int, seed: int = 0, absent: frozenset[str] = frozenset()) -> Observation:
    draw = np.random.default_rng((seed, tick))
    rows = np.stack(
        [draw.normal(0.5, 0.1, 2), np.full(2, 1.5), draw.normal(300, 5, 2)], axis=1
    ).astype(np.float32)
    senses: Mapping[str, Any] = {
        "process": rows,
        "ear": draw.integers(-9_000, 9_000, 2_000).astype(np.int16),
        "eye": draw.integers(0, 255, (24, 32, 3)).astype(np.uint8),
    }
    here = {name: sense for name, sense in senses.items() if name not in absent}
    return Observation(tick, here, dict.fromkeys(here, 1.0))


MANY = [observation(tick) for tick in range(20)]
NORMALISER = fit_normaliser(MANY, PLANT)

absences = st.lists(
    st.frozensets(st.sampled_from(["process", "ear", "eye"]), max_size=3), min_size=1, max_size=6
)


@settings(max_examples=30, deadline=None)
@given(absences)
def test_one_tick_is_like_many(absent: list[frozenset[str]]) -> None:
    ticks = [observation(i, absent=gone) for i, gone in enumerate(absent)]
    together = extract(ticks, PLANT, NORMALISER)
    for i, tick in enumerate(ticks):
        alone = extract([tick], PLANT, NORMALISER)
        for name, values in together.inputs.items():
            np.testing.assert_allclose(alone.inputs[name][0], values[i], atol=1e-4)
        np.testing.assert_array_equal(alone.presence_NM[0], together.presence_NM[i])
        np.testing.assert_array_equal(alone.setpoints_NU[0], together.setpoints_NU[i])
        np.testing.assert_allclose(alone.readings_NR[0], together.readings_NR[i], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(absences)
def test_an_absent_stream_is_a_mask_never_a_value(absent: list[frozenset[str]]) -> None:
    features = extract(
        [observation(i, absent=gone) for i, gone in enumerate(absent)], PLANT, NORMALISER
    )
    for i, gone in enumerate(absent):
        for m, stream in enumerate(LAYOUT.streams):
            is_gone = stream.name in gone
            assert features.presence_NM[i, m] == (0 if is_gone else 1)
            readings = features.readings_NR[i, LAYOUT.columns(stream.name)]
            assert np.isnan(readings).all() == is_gone
            if is_gone:
                assert not features.inputs[stream.name][i].any()


def test_setpoints_are_conditions_and_never_inputs() -> None:
    before = observation(0)
    rows = np.array(before.senses["process"])
    rows[:, 1] = 0.25
    after = Observation(0, {**before.senses, "process": rows}, before.usable)
    x, y = (extract([each], PLANT, NORMALISER) for each in (before, after))
    for name, values in x.inputs.items():
        np.testing.assert_array_equal(values, y.inputs[name])
    np.testing.assert_array_equal(x.readings_NR, y.readings_NR)
    assert x.setpoints_NU.tolist() == [[0.5]]
    assert y.setpoints_NU.tolist() == [[-0.75]]


def test_a_missing_cell_is_zero_and_flagged() -> None:
    whole = observation(0)
    rows = np.array(whole.senses["process"])
    rows[1, 2] = np.nan
    holed = Observation(0, {**whole.senses, "process": rows}, whole.usable)
    values_SC, is_missing_SC = extract([holed], PLANT, NORMALISER).inputs["process"][0]
    assert is_missing_SC.tolist() == [[0, 0], [0, 1]]
    assert values_SC[1, 1] == 0
    assert np.isfinite(values_SC).all()


def test_one_broken_sensor_is_clipped() -> None:
    whole = observation(0)
    rows = np.array(whole.senses["process"])
    rows[:, 0] = 1e9
    broken = Observation(0, {**whole.senses, "process": rows}, whole.usable)
    features = extract([broken], PLANT, NORMALISER)
    assert features.inputs["process"].max() == MAX_DEVIATIONS
    assert features.readings_NR[0, 0] == MAX_DEVIATIONS


def test_training_inputs_are_standardised() -> None:
    features = extract(MANY, PLANT, NORMALISER)
    process = features.inputs["process"][:, 0]
    assert abs(process.mean()) < 1e-3
    assert process.std() == pytest.approx(1, abs=1e-3)
    assert abs(features.inputs["ear"].mean()) < 1e-3


def test_a_stream_that_never_spoke_still_has_statistics() -> None:
    quiet = [observation(i, absent=frozenset({"ear", "eye"})) for i in range(5)]
    normaliser = fit_normaliser(quiet, PLANT)
    features = extract([observation(9)], PLANT, normaliser)
    assert all(np.isfinite(values).all() for values in features.inputs.values())


def test_a_constant_tag_does_not_explode() -> None:
    ticks = []
    for i in range(5):
        rows = np.array(observation(i).senses["process"])
        rows[:, 0] = 0.5
        ticks.append(Observation(i, {"process": rows}, {"process": 1.0}))
    features = extract(ticks, PLANT, fit_normaliser(ticks, PLANT))
    assert not features.inputs["process"][:, 0, :, 0].any()


def test_readings_of_streams_partition_the_columns() -> None:
    covered = [
        column
        for stream in LAYOUT.streams
        for column in range(LAYOUT.num_readings)[LAYOUT.columns(stream.name)]
    ]
    assert covered == list(range(LAYOUT.num_readings))
    shapes = {
        name: values.shape[1:] for name, values in extract([], PLANT, NORMALISER).inputs.items()
    }
    assert shapes == {stream.name: stream.input_shape for stream in LAYOUT.streams}


def test_a_higher_tone_lands_in_a_higher_mel_band() -> None:
    time_T = np.arange(2_000) / RATE_HZ
    tones = np.stack([9_000 * np.sin(2 * np.pi * hz * time_T) for hz in (200, 500, 1_000, 1_700)])
    loudest = log_mel(tones.astype(np.int16), sample_rate_hz=RATE_HZ).mean(axis=2).argmax(axis=1)
    assert (np.diff(loudest) > 0).all()


def test_shrinking_keeps_the_mean_colour() -> None:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 255, (2, 96, 128, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        shrink(frames).mean(axis=(2, 3)), frames.mean(axis=(1, 2)) / 255, atol=1e-5
    )


def _scaled(resolution: str, level: float) -> tuple[float, float]:
    """Return a standardised level; while it was learned it never, or hardly, moved."""
    text = PLANT_TEXT.replace("range: [0, 1]}", f"range: [0, 1]{resolution}}}")
    plant = parse_plant(text, origin="trio.yaml")
    found: list[float] = []
    for moved in (0.0, 1e-5):
        ticks = [observation(tick) for tick in range(20)]
        for each in ticks:
            each.senses["process"][:, 0] = 0.5 + moved * (-1) ** each.tick
        late = observation(20)
        late.senses["process"][:, 0] = level
        features = extract([late], plant, fit_normaliser(ticks, plant))
        found.append(float(features.readings_NR[0, 0]))
    return found[0], found[1]


def test_what_hardly_moved_is_not_magnified_beyond_its_resolution() -> None:
    assert _scaled("", 0.52) == pytest.approx((0.02, MAX_DEVIATIONS)), (
        "in its unit, and at the stop"
    )
    assert _scaled(", resolution: 0.01", 0.52) == pytest.approx((2.0, 2.0), rel=1e-3)
    # What moved more than its resolution is as it was.
    assert NORMALISER.statistics["process.readings.std"] == pytest.approx(
        fit_normaliser(MANY, FINE).statistics["process.readings.std"]
    )
