"""Normal drift is not alarming, what drift cannot explain is; few averages lean on the ticks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.scoring.tails import Tail, fit_tail
from fusion.scoring.whitening import fit_whitener, limited, log_distance, running_averages

Vectors = NDArray[np.float64]


def noise(num_ticks: int, size: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(num_ticks, size))


def drifting(num_ticks: int, begin: int) -> Vectors:
    """Return noise in which the first value warms up by 5 standard deviations in 400 ticks."""
    vectors_NV = noise(num_ticks, 4, seed=begin)
    vectors_NV[:, 0] += 5 * (begin + np.arange(num_ticks)) / 400
    return vectors_NV


def test_a_drift_that_goes_on_as_long_again_stays_inside() -> None:
    seen_NV, later_NV = drifting(400, 0), drifting(400, 400)
    whitener_VV = fit_whitener(seen_NV - seen_NV.mean(axis=0))
    distance_N = np.exp(log_distance(later_NV - seen_NV.mean(axis=0), whitener_VV))
    assert np.quantile(distance_N, 0.95) < 2


def test_a_shift_against_the_drift_is_as_far_as_ever() -> None:
    seen_NV = drifting(400, 0)
    shifted_V = np.array([0.0, 6.0, 0.0, 0.0])
    whitener_VV = fit_whitener(seen_NV - seen_NV.mean(axis=0))
    assert np.exp(log_distance(shifted_V, whitener_VV)) > 2.5


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.05])
def test_averages_of_noise_are_white(weight: float) -> None:
    vectors_NV = noise(6_000, 3)
    averages_NV = running_averages(vectors_NV, weight)[200:]
    distance_N = np.exp(2 * log_distance(averages_NV, fit_whitener(vectors_NV, weight=weight)))
    assert distance_N.mean() == pytest.approx(1, abs=0.15)


def test_averages_of_fewer_ticks_than_values_have_a_whitener() -> None:
    vectors_NV = noise(120, 52)
    whitener_VV = fit_whitener(vectors_NV, weight=0.05)
    assert np.isfinite(whitener_VV).all()
    new_NV = running_averages(noise(2_000, 52, seed=1), 0.05)[200:]
    # In-sample covariances of 3 independent averages would call every new one far out.
    assert np.median(np.exp(log_distance(new_NV, whitener_VV))) < 3


def test_a_value_that_never_moved_does_not_blind_the_rest() -> None:
    vectors_NV = noise(500, 3)
    vectors_NV[:, 1] = 0.0
    whitener_VV = fit_whitener(vectors_NV)
    assert np.isfinite(whitener_VV).all()
    assert np.exp(log_distance(np.array([0.0, 0.0, 5.0]), whitener_VV)) > 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.1, 100))
def test_limiting_keeps_the_direction_and_never_lengthens(seed: int, scale: float) -> None:
    vectors_NV = scale * noise(20, 3, seed=seed)
    whitener_VV = fit_whitener(noise(500, 3))
    short_NV = limited(vectors_NV, whitener_VV, most=3.0)
    assert (np.exp(log_distance(short_NV, whitener_VV)) <= 3.0 + 1e-5).all()
    ratio_NV = short_NV / vectors_NV
    assert np.allclose(ratio_NV, ratio_NV[:, :1])
    assert (ratio_NV <= 1 + 1e-12).all()


def test_few_peaks_make_a_heavier_tail_than_many() -> None:
    # With the scale that the prior expects too: only the trust in it differs.
    values_N = np.random.default_rng(0).exponential(scale=0.1, size=4_000)
    few, many = (fit_tail(values_N, num_independent=n) for n in (20, 4_000))
    assert few.rarity(2.0) < many.rarity(2.0)


@given(st.floats(5, 1e5), st.floats(0.01, 3))
def test_the_tail_is_never_thinner_than_exponential(num_peaks: float, excess: float) -> None:
    tail = Tail(start=0.0, scale=0.2, share=0.05, num_peaks=num_peaks)
    exponential = Tail(start=0.0, scale=0.2, share=0.05, num_peaks=1e9)
    assert tail.rarity(excess) <= exponential.rarity(excess) + 1e-6
