"""The report draws every gauge of a run over its steps, and says of each what is healthy."""

from __future__ import annotations

import numpy as np
import pytest

from flows.report.training import HEALTHY, Trend, trends
from fusion.model.gauges import is_healthy
from fusion.training import train
from tests.unit.training.tiny import PLANT, recipe, recording


@pytest.fixture(scope="module")
def history() -> list[dict[str, float]]:
    return train(recording(), PLANT, recipe(steps=12, gauge_every=3)).history


@pytest.fixture(scope="module")
def drawn(history: list[dict[str, float]]) -> dict[str, Trend]:
    return {trend.name: trend for trend in trends(history)}


def test_every_gauge_is_a_line_from_step_0_to_the_last(
    history: list[dict[str, float]], drawn: dict[str, Trend]
) -> None:
    assert [row["step"] for row in history] == [0, 3, 6, 9, 12]
    assert len(drawn) == len(history[0]) - 1
    for trend in drawn.values():
        across = [float(point.split(",")[0]) for point in trend.points.split()]
        assert len(across) == 5
        np.testing.assert_allclose(np.diff(across), np.diff(across)[0], atol=0.11)


def test_every_gauge_says_what_is_healthy(drawn: dict[str, Trend]) -> None:
    assert [trend.name for trend in drawn.values() if not trend.healthy] == []
    assert "about 1" in drawn["sigreg"].healthy
    assert "set-points" in drawn["shuffled setpoints"].healthy


def test_a_line_goes_where_the_gauge_goes() -> None:
    (trend,) = trends([{"step": step, "sigreg": value} for step, value in ((0, 9.0), (50, 1.0))])
    (_, before), (_, after) = (point.split(",") for point in trend.points.split())
    assert float(after) > float(before), "down the page is less"
    assert trend.reference_at == pytest.approx(float(after))


def test_what_the_report_calls_healthy_the_terminal_does_not_call_red() -> None:
    references = {name: at for name, at, _ in HEALTHY if at is not None}
    assert is_healthy("sigreg", references["sigreg"])
    assert is_healthy("skill.h4", references["skill"] + 0.01)
    assert is_healthy("shuffled_setpoints", references["shuffled"])
    assert not is_healthy("sigreg", 8.0)
