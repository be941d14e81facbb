"""Forecasts of limited tags: when a limit is met, how likely, in the tag's own unit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.features import layout_of
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant, parse_plant
from fusion.schema import TagForecast
from fusion.scoring import Calibration
from fusion.scoring.forecasts import forecast_tags, time_to_limit
from fusion.scoring.normal import Normal

PLANT: Plant = parse_plant(
    """
prefix: tank
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 2
    tags:
      - {name: flow, unit: l/s, range: [0, 20]}
      - {name: goal, unit: m, range: [0, 20], setpoint: true}
      - {name: level, unit: m, range: [0, 20], limits: {low: 6, high: 14}}
""",
    origin="tank.yaml",
)
HORIZONS = (2, 20)
MEAN, STD = 10.0, 2.0
LEVEL = 1


def calibration(widen: float = 0.0) -> Calibration:
    return Calibration(
        layout=layout_of(PLANT),
        horizons_ticks=HORIZONS,
        tick_s=0.5,
        normal=Normal({}, {}, {}),
        without={},
        panels={},
        caveat="",
        reading_mean_R=np.full(2, MEAN),
        reading_std_R=np.full(2, STD),
        residual_std_R=np.ones(2),
        widen_HG=np.full((2, 2), widen),
    )


def window(now: float, median: tuple[float, float], half_band: float) -> WindowOutputs:
    """Return a window whose newest level is ``now`` and that forecasts ``median``, in metres."""
    forecast_HGQ = np.zeros((2, 2, 3), np.float32)
    for row, value in enumerate(median):
        fan = np.array([value - half_band, value, value + half_band])
        forecast_HGQ[row, LEVEL] = (fan - MEAN) / STD
    one = np.zeros((1, 1), np.float32)
    return WindowOutputs(
        tick=5,
        presence_TM=one + 1,
        z_TD=one,
        p_TMP=one[None],
        cross_TMP=one[None],
        readings_TR=np.array([[0.0, (now - MEAN) / STD]], np.float32),
        cross_readings_TR=np.zeros((1, 2), np.float32),
        z_due_SD=np.zeros((0, 1), np.float32),
        p_due_SMP=np.zeros((0, 1, 1), np.float32),
        readings_due_SR=np.zeros((0, 2), np.float32),
        z_ahead_HD=np.zeros((2, 1), np.float32),
        forecast_HGQ=forecast_HGQ,
        setpoints_TU=one,
        usable={"process": 1.0},
    )


def level(
    now: float, median: tuple[float, float], half_band: float = 0.5, widen: float = 0.0
) -> TagForecast:
    (forecast,) = forecast_tags(window(now, median, half_band), PLANT, calibration(widen))
    assert (forecast.tag, forecast.unit, forecast.horizons_s) == ("level", "m", (1.0, 10.0))
    return forecast


def test_only_tags_with_limits_are_forecast_and_in_their_units() -> None:
    forecast = level(11, (11, 12))
    assert forecast.now == pytest.approx(11)
    assert forecast.median == pytest.approx((11, 12))
    assert forecast.low == pytest.approx((10.5, 11.5))
    assert forecast.high == pytest.approx((11.5, 12.5))


def test_a_tag_without_a_value_is_not_forecast() -> None:
    assert forecast_tags(window(np.nan, (11, 12), 0.5), PLANT, calibration()) == ()


def test_the_calibration_widens_the_band() -> None:
    assert level(11, (11, 12), widen=0.5).low == pytest.approx((9.5, 10.5))


def test_a_band_never_leaves_its_median() -> None:
    forecast = level(11, (11, 12), widen=-3.0)
    assert forecast.low == forecast.median == forecast.high


@pytest.mark.parametrize(
    ("now", "side"), [(14.0, "high"), (15.0, "high"), (6.0, "low"), (3, "low")]
)
def test_beyond_the_limit_crossing_is_certain_and_now(now: float, side: str) -> None:
    forecast = level(now, (10, 10))
    assert forecast.p_cross == 1
    assert forecast.limit_side == side
    assert forecast.t_cross_s == (0.0, 0.0, 0.0)


def test_far_from_its_limits_a_tag_crosses_none() -> None:
    forecast = level(10, (10, 10))
    assert forecast.p_cross < 1e-6
    assert forecast.t_cross_s == (None, None, None)


@pytest.mark.parametrize(("end", "side", "limit"), [(14.0, "high", 14.0), (6.0, "low", 6.0)])
def test_a_median_that_ends_on_the_limit_crosses_it_at_even_odds(
    end: float, side: str, limit: float
) -> None:
    forecast = level(10, (10, end))
    assert forecast.p_cross == pytest.approx(0.5, abs=1e-3)
    assert (forecast.limit_side, forecast.limit) == (side, limit)


def test_early_comes_before_the_median_and_the_median_before_late() -> None:
    early, median, late = level(13, (13.2, 16), half_band=0.4).t_cross_s
    assert early is not None
    assert median is not None
    assert late is not None
    assert 0 < early < median < late < 10


def test_the_band_at_its_own_quantile_is_crossed_with_that_chance() -> None:
    assert level(10, (10, 13), half_band=1.0).p_cross == pytest.approx(0.05, abs=1e-3)
    assert level(10, (10, 15), half_band=1.0).p_cross == pytest.approx(0.95, abs=1e-3)


@given(st.floats(7, 13), st.lists(st.floats(10, 19), min_size=2), st.floats(0.1, 3))
def test_a_higher_forecast_is_never_less_likely_to_cross(
    now: float, ends: list[float], half_band: float
) -> None:
    chances = [level(now, (now, end), half_band).p_cross for end in sorted(ends) if end >= 10]
    assert all(0 <= chance <= 1 for chance in chances)
    upwards = [
        forecast.p_cross
        for end in sorted(ends)
        if (forecast := level(now, (now, end), half_band)).limit_side == "high"
    ]
    assert all(a <= b + 1e-6 for a, b in pairwise(upwards))


@pytest.mark.parametrize(
    ("path", "side", "limit", "expected"),
    [
        ((2.0, 6.0), "high", 4.0, 15.0),
        ((3.0, 3.0), "high", 2.0, 5.0),
        ((4.0, 0.0), "high", 4.0, 10.0),
        ((2.0, 3.0), "high", 4.0, None),
        ((0.0, -2.0), "low", -1.0, 15.0),
        ((9.0, 9.0), "low", 0.0, None),
        ((1.0, 1.0), "high", 1.0, 0.0),
    ],
)
def test_the_limit_is_met_where_the_straight_path_meets_it(
    path: tuple[float, float], side: str, limit: float, expected: float | None
) -> None:
    assert time_to_limit(1.0, np.array(path), (10.0, 20.0), limit, side) == expected


@given(
    st.floats(-9, 9),
    st.lists(st.floats(-9, 9), min_size=3, max_size=3),
    st.floats(-9, 9),
    st.sampled_from(["low", "high"]),
)
def test_the_time_to_a_limit_lies_within_the_horizons_and_mirrors(
    now: float, path: list[float], limit: float, side: str
) -> None:
    horizons_s = (1.0, 5.0, 20.0)
    time_s = time_to_limit(now, np.array(path), horizons_s, limit, side)
    other = {"low": "high", "high": "low"}[side]
    assert time_s == time_to_limit(-now, -np.array(path), horizons_s, -limit, other)
    if time_s is None:
        sign = 1 if side == "high" else -1
        assert all(sign * value < sign * limit for value in (now, *path))
    else:
        assert 0 <= time_s <= 20
