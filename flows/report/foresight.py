"""Forecasts of tags against what came: how often the band held, and how early limits were foreseen.

Shapes: N scores with a forecast of the tag, H horizons. Values in the tag's unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.report.inputs import ReportInputs, TagSeries
from flows.report.verdicts import in_any_fault
from fusion.plant import NANOSECONDS, Tag
from fusion.schema import Score, TagForecast

MOST_TAGS = 3


@dataclass(frozen=True, slots=True)
class Held:
    """How the forecasts of one horizon did. ``inside`` should be near .90 for a 90 % band."""

    horizon_s: float
    num: int
    inside: float | None
    inside_healthy: float | None
    error: float | None
    error_healthy: float | None
    persistence_healthy: float | None
    """The same median error for "it stays as it is"."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One time the tag passed its limit. ``warned_s`` before it an alarm foresaw it, or None."""

    t_ns: int
    side: str
    warned_s: float | None


@dataclass(frozen=True, slots=True)
class Foresight:
    """The forecasts of one tag at every horizon, placed at the time that they speak about."""

    tag: Tag
    horizons_s: tuple[float, ...]
    t_origin_N_ns: NDArray[np.int64]
    low_NH: NDArray[np.float64]
    median_NH: NDArray[np.float64]
    high_NH: NDArray[np.float64]
    actual: TagSeries | None
    held: tuple[Held, ...]
    crossings: tuple[Crossing, ...]

    def target_times_ns(self) -> NDArray[np.int64]:
        """Return the N times that the longest horizon speaks about."""
        return self.t_origin_N_ns + round(self.horizons_s[-1] * NANOSECONDS)


def foresights(inputs: ReportInputs) -> tuple[Foresight, ...]:
    """Return the forecasts worth showing: tags with limits first, nearest to a limit first."""
    by_tag = _forecasts_by_tag(inputs.scores)
    tags = [tag for tag in inputs.plant.measured if tag.name in by_tag]
    limited = [tag for tag in tags if tag.limits is not None]
    risk = {tag.name: max(f.p_cross for _, f in by_tag[tag.name]) for tag in tags}
    chosen = sorted(limited or tags, key=lambda tag: -risk[tag.name])[:MOST_TAGS]
    return tuple(_foresight(tag, by_tag[tag.name], inputs) for tag in chosen)


def _forecasts_by_tag(scores: Sequence[Score]) -> Mapping[str, list[tuple[int, TagForecast]]]:
    by_tag: dict[str, list[tuple[int, TagForecast]]] = {}
    for score in scores:
        for forecast in score.forecasts:
            if forecast.horizons_s:
                by_tag.setdefault(forecast.tag, []).append((score.t_end_ns, forecast))
    return by_tag


def _foresight(
    tag: Tag, forecasts: list[tuple[int, TagForecast]], inputs: ReportInputs
) -> Foresight:
    horizons_s = forecasts[-1][1].horizons_s
    same = [(t_ns, f) for t_ns, f in forecasts if f.horizons_s == horizons_s]
    t_origin_N_ns = np.array([t_ns for t_ns, _ in same], dtype=np.int64)
    low_NH = np.array([f.low for _, f in same], dtype=np.float64)
    median_NH = np.array([f.median for _, f in same], dtype=np.float64)
    high_NH = np.array([f.high for _, f in same], dtype=np.float64)
    actual = inputs.tags.get(tag.name)
    held: tuple[Held, ...] = ()
    if actual is not None and actual[0].size:
        quantiles = (low_NH, median_NH, high_NH)
        held = tuple(
            _held(t_origin_N_ns, horizon_s, tuple(q[:, h] for q in quantiles), actual, inputs)
            for h, horizon_s in enumerate(horizons_s)
        )
    return Foresight(
        tag=tag,
        horizons_s=horizons_s,
        t_origin_N_ns=t_origin_N_ns,
        low_NH=low_NH,
        median_NH=median_NH,
        high_NH=high_NH,
        actual=actual,
        held=held,
        crossings=_crossings(tag, actual, inputs, 2 * horizons_s[-1]),
    )


def _held(
    t_origin_N_ns: NDArray[np.int64],
    horizon_s: float,
    quantiles_N: tuple[NDArray[np.float64], ...],
    actual: TagSeries,
    inputs: ReportInputs,
) -> Held:
    low_N, median_N, high_N = quantiles_N
    t_target_N_ns = t_origin_N_ns + round(horizon_s * NANOSECONDS)
    came_N = sample(actual, t_target_N_ns, tolerance_ns=inputs.plant.tick_ns // 2)
    now_N = sample(actual, t_origin_N_ns, tolerance_ns=inputs.plant.tick_ns // 2)
    known_N = np.isfinite(came_N) & np.isfinite(median_N)
    grace_ns = round(inputs.grace_s * NANOSECONDS)
    is_abnormal_N = in_any_fault(t_target_N_ns, inputs.faults, grace_ns)
    healthy_N = known_N & ~is_abnormal_N & np.isfinite(now_N)
    inside_N = (low_N <= came_N) & (came_N <= high_N)
    error_N = np.abs(came_N - median_N)
    return Held(
        horizon_s=horizon_s,
        num=int(known_N.sum()),
        inside=_mean(inside_N[known_N]),
        inside_healthy=_mean(inside_N[healthy_N]),
        error=_median(error_N[known_N]),
        error_healthy=_median(error_N[healthy_N]),
        persistence_healthy=_median(np.abs(came_N - now_N)[healthy_N]),
    )


def sample(
    series: TagSeries, t_N_ns: NDArray[np.int64], *, tolerance_ns: int
) -> NDArray[np.float64]:
    """Return the values nearest to ``t_N_ns``, NaN where none lies within the tolerance.

    Example:
        >>> series = (np.array([0, 10, 20]), np.array([1.0, 2.0, 3.0]))
        >>> sample(series, np.array([9, 40]), tolerance_ns=5)
        array([ 2., nan])
    """
    t_K_ns, values_K = series
    right_N = np.clip(np.searchsorted(t_K_ns, t_N_ns), 1, max(1, t_K_ns.size - 1))
    left_N = right_N - 1
    right_N = np.minimum(right_N, t_K_ns.size - 1)
    is_left_N = t_N_ns - t_K_ns[left_N] < t_K_ns[right_N] - t_N_ns
    nearest_N = np.where(is_left_N, left_N, right_N)
    is_near_N = np.abs(t_K_ns[nearest_N] - t_N_ns) <= tolerance_ns
    return np.where(is_near_N, values_K[nearest_N].astype(np.float64), np.nan)


def _crossings(
    tag: Tag, actual: TagSeries | None, inputs: ReportInputs, reach_s: float
) -> tuple[Crossing, ...]:
    """Find where the tag passed a limit, and whether a forecast alarm stood or came before it.

    A crossing within ``reach_s`` of the one before is the same excursion: noise at the limit.
    """
    if actual is None or tag.limits is None:
        return ()
    t_K_ns, values_K = actual
    raised_ns = np.array(
        [
            event.t_ns
            for event in inputs.events
            if event.transition == "raised"
            and event.state.finding == "forecast"
            and event.state.tag == tag.name
        ],
        dtype=np.int64,
    )
    found: list[Crossing] = []
    for side, limit in (("high", tag.limits.high), ("low", tag.limits.low)):
        if limit is None:
            continue
        beyond_K = values_K > limit if side == "high" else values_K < limit
        last_ns: int | None = None
        for t_ns in t_K_ns[np.flatnonzero(beyond_K & ~np.concatenate([[False], beyond_K[:-1]]))]:
            is_same = last_ns is not None and t_ns - last_ns < reach_s * NANOSECONDS
            last_ns = int(t_ns)
            if not is_same:
                found.append(Crossing(last_ns, side, _warned_s(last_ns, raised_ns, reach_s)))
    return tuple(sorted(found, key=lambda crossing: crossing.t_ns))


def _warned_s(t_ns: int, raised_ns: NDArray[np.int64], reach_s: float) -> float | None:
    ahead_s = (t_ns - raised_ns) / NANOSECONDS
    ahead_s = ahead_s[(ahead_s > 0) & (ahead_s <= reach_s)]
    return float(ahead_s.max()) if ahead_s.size else None


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if values.size else None
