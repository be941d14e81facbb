"""Names on a forecast's chart can be read: none lies on another or on the line."""

from __future__ import annotations

import pytest

from console.charts import FAN_HEIGHT, fan_of
from fusion.schema import TagForecast


def forecast(*, limit: float, horizons_s: tuple[float, ...] = (2, 8, 20, 60)) -> TagForecast:
    count = len(horizons_s)
    return TagForecast(
        tag="level", unit="m", now=10.0, horizons_s=horizons_s, limit=limit, limit_side="high",
        low=(9.0,) * count, median=(10.0,) * count, high=(11.0,) * count,
    )  # fmt: skip


def test_names_of_horizons_that_lie_close_are_left_out() -> None:
    ticks = fan_of(forecast(limit=12)).ticks
    assert [name for _, name in ticks] == ["now", "20 s", "60 s"]
    alone = forecast(limit=12, horizons_s=(60,)).model_copy(update={"now": None})
    assert [name for _, name in fan_of(alone).ticks] == ["60 s"]


@pytest.mark.parametrize(("limit", "is_above"), [(12.0, True), (10.1, True), (5.0, False)])
def test_the_name_of_a_limit_stands_away_from_the_forecast_and_inside(
    limit: float, *, is_above: bool
) -> None:
    fan = fan_of(forecast(limit=limit))
    assert fan.limit_y is not None
    assert fan.limit_text_y is not None
    assert (fan.limit_text_y < fan.limit_y) == is_above
    assert 10 <= fan.limit_text_y <= FAN_HEIGHT
