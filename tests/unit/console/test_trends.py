"""Trends keep every extreme, whatever the order and however few points are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.trends import Trends
from fusion.plant import NANOSECONDS
from fusion.schema import Quality, TelemetryBatch
from tests.console_app import PLANT

TAGS = ("tank_level", "pump_speed")
samples = st.lists(
    st.tuples(
        st.integers(0, 300_000),  # ms
        st.floats(-1e6, 1e6, width=32),
        st.sampled_from([Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.NOT_REPORTED]),
    ),
    min_size=1,
    max_size=60,
)


def batch(rows: list[tuple[int, float, Quality]]) -> TelemetryBatch:
    t_R_ns = np.array([ms * 1_000_000 for ms, _, _ in rows], np.int64)
    shape = (len(rows), 2)
    values_RC, quality_RC = np.zeros(shape), np.full(shape, Quality.GOOD, np.uint8)
    values_RC[:, 0] = [value for _, value, _ in rows]
    quality_RC[:, 0] = [quality for _, _, quality in rows]
    status_RC = np.zeros(shape, np.uint32)
    return TelemetryBatch("process", TAGS, t_R_ns, t_R_ns, t_R_ns, values_RC, quality_RC, status_RC)


@given(samples, st.integers(1, 50), st.randoms())
def test_every_point_has_the_extremes_of_its_time(
    rows: list[tuple[int, float, Quality]], num_points: int, random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    trends = Trends(PLANT)
    for start in range(0, len(shuffled), 7):
        trends.add("process", batch(shuffled[start : start + 7]))
    trend = trends.trend("tank_level", span_s=301, num_points=num_points)
    assert len(trend.t_s) <= num_points
    edges_s = [*trend.t_s, math.inf]
    usable = [(ms, v) for ms, v, quality in rows if quality <= Quality.UNCERTAIN]
    newest_s = max(ms for ms, _, _ in rows) // 1000
    for place, start_s in enumerate(trend.t_s):
        inside = [v for ms, v in usable if start_s <= ms // 1000 < edges_s[place + 1]]
        assert trend.low[place] == (min(inside) if inside else None)
        assert trend.high[place] == (max(inside) if inside else None)
    assert trend.t_s[0] >= newest_s - 301


def test_two_days_are_drawn_from_the_coarse_grid() -> None:
    trends = Trends(PLANT)
    for hour in range(48):
        trends.add("process", batch([(hour * 3_600_000, float(hour), Quality.GOOD)]))
    trend = trends.trend("tank_level", span_s=172_800, num_points=400)
    assert len(trend.t_s) <= 400
    assert [v for v in trend.high if v is not None] == [float(hour) for hour in range(48)]


def test_what_is_older_than_the_ring_changes_nothing() -> None:
    trends = Trends(PLANT)
    trends.add("process", batch([(5_000_000, 1.0, Quality.GOOD)]))
    trends.add("process", batch([(5_000_000 - 1_800_000, 9.0, Quality.GOOD)]))
    assert 9.0 not in trends.trend("tank_level", span_s=1_800, num_points=1_800).high


def test_memory_is_known_from_the_plant() -> None:
    trends = Trends(PLANT)
    num_tags = len(PLANT.telemetry_streams[0].tags)
    for day in range(3):
        t_ms = day * 86_400_000
        trends.add("process", batch([(t_ms, 1.0, Quality.GOOD)]))
    sizes = [grid.low_BT.nbytes for grids in trends._grids.values() for grid in grids]
    assert sum(sizes) == (1_800 + 2_880) * num_tags * 4
    assert NANOSECONDS == 1_000_000_000


def test_a_tag_that_is_not_there_is_said() -> None:
    with pytest.raises(KeyError):
        Trends(PLANT).trend("no_such_tag", span_s=60, num_points=10)
