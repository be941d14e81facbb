"""Bands hold what they promise, also when errors grow."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.scoring.bands import FollowingBands, fit_bands, followed


def test_a_fitted_band_holds_nine_tenths_of_errors_like_those_it_was_fitted_on() -> None:
    draw = np.random.default_rng(0)
    low, high = fit_bands(draw.normal(size=(4_000, 3, 2)))
    new = draw.normal(size=(4_000, 3, 2))
    assert ((new >= low) & (new <= high)).mean(axis=0) == pytest.approx(0.9, abs=0.02)


def test_a_following_band_holds_its_promise_when_errors_treble_and_a_fixed_one_does_not() -> None:
    draw = np.random.default_rng(1)
    bands = fit_bands(draw.normal(size=(500, 2, 1)))
    errors = draw.normal(scale=3.0, size=(3_000, 2, 1))
    fixed = ((errors >= bands[0]) & (errors <= bands[1])).mean()
    assert fixed < 0.5
    assert followed(errors, bands, np.array([1, 5])) == pytest.approx(0.9, abs=0.03)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_the_long_run_share_is_the_promised_one_whatever_comes(seed: int, scale: float) -> None:
    # Gibbs & Candes 2021, proposition 4.1: the miss rate is off by at most range / (rate n).
    draw = np.random.default_rng(seed)
    errors = np.cumsum(draw.normal(scale=scale, size=4_000)) % (8 * scale) - 4 * scale
    held = followed(errors[:, None, None], np.array([[[-scale]], [[scale]]]), np.array([1]))
    assert held[0, 0] == pytest.approx(0.9, abs=0.05)


def test_unknown_errors_change_nothing_and_a_restart_goes_on() -> None:
    bands = FollowingBands(np.array([[[-1.0]], [[1.0]]]), np.array([1]))
    bands.update(np.array([[np.nan]]))
    assert bands.bands.ravel().tolist() == [-1.0, 1.0]
    bands.update(np.array([[5.0]]))
    again = FollowingBands(np.array([[[-1.0]], [[1.0]]]), np.array([1]))
    again.restore(json.loads(json.dumps(bands.snapshot())))
    assert np.array_equal(again.bands, bands.bands)
    assert bands.bands[1, 0, 0] > 1.0


def test_a_band_that_learns_late_does_not_swing_below_its_promise() -> None:
    draw = np.random.default_rng(3)
    errors = draw.normal(size=(3_000, 1, 1))
    too_wide = fit_bands(draw.normal(scale=1.5, size=(2_000, 1, 1)))
    assert followed(errors, too_wide, np.array([700]))[0, 0] >= 0.9
