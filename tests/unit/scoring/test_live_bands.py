"""Live bands come back to their promise on another run than the one they were calibrated on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusion.scoring.live_bands import LiveBands

HORIZONS = (1, 4)
SAID = np.tile(np.array([-1.0, 0.0, 1.0]), (2, 1, 1))


def share_held(bands: LiveBands, came: np.ndarray) -> float:
    """Say the same at every tick and count what lay in the widened band of four ticks ahead."""
    inside = []
    widened: list[float] = []
    for tick, value in enumerate(came):
        if tick >= 4:
            inside.append(abs(value) <= 1 + widened[tick - 4])
        bands.push(tick, SAID, np.array([value]))
        widened.append(float(bands.widen[1, 0]))
    return float(np.mean(inside))


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_nine_tenths_are_held_however_large_the_errors_are(scale: float) -> None:
    came = np.random.default_rng(0).normal(scale=scale, size=3_000)
    assert share_held(LiveBands(np.zeros((2, 1)), HORIZONS), came) == pytest.approx(0.9, abs=0.04)


def test_what_did_not_come_teaches_nothing() -> None:
    bands = LiveBands(np.ones((2, 1)), HORIZONS)
    for tick in range(10):
        bands.push(tick, SAID, np.array([np.nan]))
    assert np.array_equal(bands.widen, np.ones((2, 1)))


def test_after_a_gap_of_time_nothing_is_compared_across_it() -> None:
    bands = LiveBands(np.ones((2, 1)), HORIZONS)
    bands.push(0, SAID, np.array([0.0]))
    bands.push(100, SAID, np.array([99.0]))
    assert np.array_equal(bands.widen, np.ones((2, 1)))


def test_a_restart_goes_on_as_if_nothing_had_happened() -> None:
    came = np.random.default_rng(1).normal(scale=3, size=(40, 1))
    whole, first = (LiveBands(np.zeros((2, 1)), HORIZONS) for _ in range(2))
    for tick, value in enumerate(came):
        whole.push(tick, SAID, value)
    for tick in range(20):
        first.push(tick, SAID, came[tick])
    second = LiveBands(np.zeros((2, 1)), HORIZONS)
    second.restore(json.loads(json.dumps(first.snapshot())))
    for tick in range(20, 40):
        second.push(tick, SAID, came[tick])
    assert np.array_equal(second.widen, whole.widen)
