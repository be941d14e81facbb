"""Forecasts of tags with limits: quantiles in units, chance and time of crossing.

Shapes: H horizons, G measured tags.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fusion.model.outputs import WindowOutputs
from fusion.model.predictor import tag_columns
from fusion.plant import Plant, Tag
from fusion.schema import TagForecast
from fusion.scoring.calibration import Calibration

NORMAL_95 = 1.6449
"""Standard deviations from the median to the 95 % quantile of a normal distribution."""


def forecast_tags(
    window: WindowOutputs, plant: Plant, calibration: Calibration
) -> tuple[TagForecast, ...]:
    """Return the forecast of every tag that has limits, in the tag's unit."""
    columns = tag_columns(calibration.layout)
    limited = [(index, tag) for index, tag in enumerate(plant.measured) if tag.limits is not None]
    horizons_s = tuple(h * calibration.tick_s for h in calibration.horizons_ticks)
    fans = fans_in_units(window.forecast_HGQ, calibration)
    forecasts: list[TagForecast] = []
    for index, tag in limited:
        column = columns[index]
        now = float(window.readings_TR[-1, column])
        if math.isnan(now):
            continue
        mean, std = calibration.reading_mean_R[column], calibration.reading_std_R[column]
        low_H, median_H, high_H = (path[:, index] for path in fans)
        forecasts.append(tag_forecast(tag, now * std + mean, horizons_s, low_H, median_H, high_H))
    return tuple(forecasts)


def fans_in_units(
    forecast_HGQ: NDArray[np.floating], calibration: Calibration
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the calibrated 5 %, 50 % and 95 % paths [..., H, G] of forecasts [..., H, G, Q]."""
    columns = tag_columns(calibration.layout)
    mean_G, std_G = calibration.reading_mean_R[columns], calibration.reading_std_R[columns]
    middle = forecast_HGQ.shape[-1] // 2
    low = (forecast_HGQ[..., 0] - calibration.widen_HG) * std_G + mean_G
    median = forecast_HGQ[..., middle] * std_G + mean_G
    high = (forecast_HGQ[..., -1] + calibration.widen_HG) * std_G + mean_G
    return np.minimum(low, median), median, np.maximum(high, median)


def tag_forecast(  # noqa: PLR0917 the three paths of one fan
    tag: Tag,
    now: float,
    horizons_s: tuple[float, ...],
    low_H: NDArray[np.float64],
    median_H: NDArray[np.float64],
    high_H: NDArray[np.float64],
) -> TagForecast:
    """Return the forecast of a tag with limits, with chance and time of crossing."""
    assert tag.limits is not None, "only tags with limits are forecast"
    sides: list[tuple[Literal["low", "high"], float | None]] = [
        ("high", tag.limits.high),
        ("low", tag.limits.low),
    ]
    chances: list[tuple[float, Literal["low", "high"], float]] = [
        (_chance(now, limit, side, low_H, median_H, high_H), side, limit)
        for side, limit in sides
        if limit is not None
    ]
    p_cross, side, limit = max(chances)
    early, late = (high_H, low_H) if side == "high" else (low_H, high_H)
    return TagForecast(
        tag=tag.name,
        unit=tag.unit,
        now=now,
        horizons_s=horizons_s,
        low=tuple(low_H.tolist()),
        median=tuple(median_H.tolist()),
        high=tuple(high_H.tolist()),
        limit=limit,
        limit_side=side,
        p_cross=p_cross,
        t_cross_s=(
            time_to_limit(now, early, horizons_s, limit, side),
            time_to_limit(now, median_H, horizons_s, limit, side),
            time_to_limit(now, late, horizons_s, limit, side),
        ),
    )


def _chance(  # noqa: PLR0917 the three paths of one fan
    now: float,
    limit: float,
    side: str,
    low_H: NDArray[np.float64],
    median_H: NDArray[np.float64],
    high_H: NDArray[np.float64],
) -> float:
    """Return P(beyond the limit) at the worst horizon; 1 where the tag is beyond it now."""
    sign = 1.0 if side == "high" else -1.0
    if sign * (now - limit) >= 0:
        return 1.0
    return float(chances_beyond(limit, side, low_H, median_H, high_H).max())


def chances_beyond(
    limit: float,
    side: str,
    low: NDArray[np.float64],
    median: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return P(beyond the limit) at each point of a fan: normal on each side of the median.

    Example:
        >>> ends = np.array([0.0]), np.array([1.0]), np.array([2.0])
        >>> chances_beyond(2.0, "high", *ends).round(2).tolist()
        [0.05]
    """
    sign = 1.0 if side == "high" else -1.0
    outer, inner = (high, low) if side == "high" else (low, high)
    distance = sign * (limit - median)
    spread = np.where(distance >= 0, np.abs(outer - median), np.abs(inner - median)) / NORMAL_95
    return ndtr(-distance / np.maximum(spread, 1e-9))


def time_to_limit(
    now: float,
    path_H: NDArray[np.float64],
    horizons_s: tuple[float, ...],
    limit: float,
    side: str,
) -> float | None:
    """Return the seconds until the straight path through the horizons meets the limit, else None.

    Example:
        >>> time_to_limit(1.0, np.array([2.0, 6.0]), (10.0, 20.0), limit=4.0, side="high")
        15.0
    """
    sign = 1.0 if side == "high" else -1.0
    times, values = (0.0, *horizons_s), (now, *path_H.tolist())
    if sign * (now - limit) >= 0:
        return 0.0
    for (t0, v0), (t1, v1) in zip(
        zip(times, values, strict=True), zip(times[1:], values[1:], strict=True), strict=False
    ):
        if sign * (v1 - limit) >= 0:
            return t0 + (t1 - t0) * (limit - v0) / (v1 - v0)
    return None
