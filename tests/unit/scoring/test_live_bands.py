"""Live bands come back to their promise on another run than the one they were calibrated on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusion.evaluation.tables import table_plant
from fusion.plant import Limits, Plant
from fusion.schema import TagForecast
from fusion.scoring.live_bands import LiveBands

HORIZONS_S = (2.0, 8.0)


def plant() -> Plant:
    """One tag with an upper limit, a tick of two seconds."""
    described = table_plant("toy", ["level"], tick_s=2)
    (stream,) = described.telemetry_streams
    tag = stream.tags[0].model_copy(update={"limits": Limits(high=50.0)})
    stream = stream.model_copy(update={"tags": (tag,)})
    return described.model_copy(update={"streams": (stream,)})


def said(now: float | None) -> TagForecast:
    """The same band at every tick, whatever comes."""
    low, median, high = (-1.0, -1.0), (0.0, 0.0), (1.0, 1.0)
    return TagForecast(
        tag="level", unit="1", now=now, horizons_s=HORIZONS_S, low=low, median=median, high=high
    )


def run(bands: LiveBands, came: np.ndarray, first: int = 0) -> list[TagForecast]:
    return [bands.follow(first + tick, [said(float(value))])[0] for tick, value in enumerate(came)]


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_nine_tenths_are_held_however_large_the_errors_are(scale: float) -> None:
    came = np.random.default_rng(0).normal(scale=scale, size=3_000)
    found = run(LiveBands(plant()), came)
    for row, ahead in enumerate((1, 4)):
        held = [f.low[row] <= v <= f.high[row] for f, v in zip(found, came[ahead:], strict=False)]
        assert np.mean(held) == pytest.approx(0.9, abs=0.04)


def test_the_chance_of_crossing_follows_the_wider_band() -> None:
    came = np.random.default_rng(1).normal(scale=30, size=500)
    first, *_, last = run(LiveBands(plant()), np.clip(came, None, 40))
    assert first.p_cross < 0.001
    assert last.p_cross > 0.01


def test_what_did_not_come_teaches_nothing() -> None:
    bands = LiveBands(plant())
    for tick in range(10):
        assert bands.follow(tick, [said(None)]) == (said(None),)
    assert bands.snapshot()["more"] == {"level": [0.0, 0.0]}


def test_after_a_gap_of_time_nothing_is_compared_across_it() -> None:
    bands = LiveBands(plant())
    bands.follow(0, [said(0.0)])
    assert bands.follow(100, [said(49.0)])[0].high == (1.0, 1.0)


def test_a_restart_goes_on_as_if_nothing_had_happened() -> None:
    came = np.random.default_rng(1).normal(scale=3, size=40)
    whole = run(LiveBands(plant()), came)
    first = LiveBands(plant())
    begun = run(first, came[:20])
    second = LiveBands(plant())
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert begun + run(second, came[20:], first=20) == whole
