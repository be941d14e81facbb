"""A model on an examination: figures by which a challenger and a champion are compared.

All see the same ticks of the same lake version. Alarms are the alarm engine's, with the same
delays, for every method.

Shapes: N ticks, H horizons, G measured tags.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation, tick_end_ns, tick_of
from fusion.evaluation.baselines import fit_pca_chart, tag_means
from fusion.evaluation.calibrated import WINDOWS_AT_ONCE, Calibrated
from fusion.evaluation.detection import DAY_S, RECOVERY_S, Floats, raised_ns
from fusion.model.predictor import tag_columns
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.incidents import Examination, Incident
from fusion.scoring import Scorer
from fusion.scoring.forecasts import fans_in_units
from fusion.stream.windows import WindowEncoder

EARLY_S = 60.0
"""An incident begins when the version of that day alarmed: another one may alarm before."""
LEAD_S = 120.0
"""Ticks before an incident that are replayed with it, so that windows and averages are full."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What one method did on an examination."""

    figures: dict[str, float]
    """What could not be measured is NaN."""
    delay_s: dict[str, float | None]
    """Of each incident, by episode; None where no alarm began."""
    ticks_N: NDArray[np.int64]
    surprise_N: Floats


@dataclass(slots=True)
class _Forecasts:
    """Forecasts beside what came: errors of the model, and of saying that nothing changes."""

    horizons: tuple[int, ...]
    now: dict[int, Floats] = field(default_factory=dict[int, Floats])
    fans: dict[int, tuple[Floats, Floats, Floats]] = field(
        default_factory=dict[int, tuple[Floats, Floats, Floats]]
    )


def replayed_ticks(examination: Examination, plant: Plant, window_ticks: int) -> list[range]:
    """Return what has to be read: the examined ticks and each incident, with a lead for windows."""
    lead = round(LEAD_S / plant.tick_s) + window_ticks
    first, stop = examination.first_tick, examination.stop_tick
    return [
        range(first - lead, stop),
        *(
            range(ticks.start - lead, ticks.stop)
            for ticks in (each.ticks(plant, before_s=EARLY_S) for each in examination.incidents)
        ),
    ]


def examine_model(
    told: Calibrated, observations: Sequence[Observation], examination: Examination
) -> Examined:
    """Return what a model does: its alarms, and its forecasts where nothing was wrong."""
    surprise_N, forecasts = _run(told, observations)
    alarms = _alarms(observations, surprise_N, examination, told.plant)
    normal = _is_normal(_ticks(observations), examination, told.plant)
    well = set(_ticks(observations)[normal].tolist())
    figures = alarms.figures | _skill(forecasts, well, told.plant.tick_s)
    if told.manifest.gauges:
        last = told.manifest.gauges[-1]
        figures |= {name: last[name] for name in ("rankme", "sigreg", "probe_r2") if name in last}
    return Examined(figures, alarms.delay_s, alarms.ticks_N, surprise_N)


def examine_baseline(
    learned: Sequence[Observation],
    observations: Sequence[Observation],
    examination: Examination,
    plant: Plant,
    *,
    held_out: float,
) -> Examined | None:
    """Return what PCA's T2 and SPE on the telemetry do; None for a plant that has none."""
    if not plant.telemetry_streams:
        return None
    chart = fit_pca_chart(tag_means(learned, plant), plant, held_out=held_out)
    surprise_N = chart.surprise(tag_means(observations, plant))
    return _alarms(observations, surprise_N, examination, plant)


def _alarms(
    observations: Sequence[Observation],
    surprise_N: Floats,
    examination: Examination,
    plant: Plant,
) -> Examined:
    """Return what alarms began where, and what share of the normal ticks lay above 1."""
    ticks_N = _ticks(observations)
    normal_N = _is_normal(ticks_N, examination, plant)
    raised = raised_ns(observations, surprise_N, plant)
    delay_s = {
        each.episode: _delay_s(each, raised, plant) for each in examination.incidents
    }  # fmt: skip
    well = set(ticks_N[normal_N].tolist())
    num_false = sum(tick_of(t_ns - 1, plant) in well for t_ns in raised)
    normal_s = float(normal_N.sum()) * plant.tick_s
    scored_N = normal_N & np.isfinite(surprise_N)
    noticed = [delay for delay in delay_s.values() if delay is not None]
    figures = {
        "false_alarms": float(num_false),
        "false_alarms_per_day": num_false * DAY_S / normal_s if normal_s else math.nan,
        "normal_h": normal_s / 3_600,
        "alarm_share": float((surprise_N[scored_N] >= 1).mean()) if scored_N.any() else math.nan,
        "num_incidents": float(len(delay_s)),
        "recall": len(noticed) / len(delay_s) if delay_s else math.nan,
        "median_delay_s": statistics.median(noticed) if noticed else math.nan,
    }
    return Examined(figures, delay_s, ticks_N, surprise_N)


def _is_normal(
    ticks_N: NDArray[np.int64], examination: Examination, plant: Plant
) -> NDArray[np.bool_]:
    """Return which ticks are examined and lie in no real incident, nor right after one.

    What nobody has judged may have been one: it counts for nobody, and against nobody.
    """
    normal_N = (ticks_N >= examination.first_tick) & (ticks_N < examination.stop_tick)
    for each in (*examination.incidents, *examination.unjudged):
        apart = each.ticks(plant, before_s=EARLY_S, after_s=RECOVERY_S)
        normal_N &= (ticks_N < apart.start) | (ticks_N >= apart.stop)
    return normal_N


def _delay_s(incident: Incident, raised: Sequence[int], plant: Plant) -> float | None:
    first_ns = incident.onset_ns - round(EARLY_S * NANOSECONDS)
    last_ns = tick_end_ns(tick_of(incident.end_ns, plant), plant)
    within = [t_ns for t_ns in raised if first_ns < t_ns <= last_ns]
    return (min(within) - incident.onset_ns) / NANOSECONDS if within else None


def _run(told: Calibrated, observations: Sequence[Observation]) -> tuple[Floats, _Forecasts]:
    """Return the surprise of each tick, and the forecasts of every measured tag."""
    encoder = WindowEncoder(told.inference, told.plant, told.manifest, told.normaliser)
    scorer = Scorer(told.calibration, told.plant, told.manifest.version)
    row_of = {each.tick: row for row, each in enumerate(observations)}
    surprise_N = np.full(len(observations), np.nan)
    forecasts = _Forecasts(told.calibration.horizons_ticks)
    columns = tag_columns(told.calibration.layout)
    mean_G = told.calibration.reading_mean_R[columns]
    std_G = told.calibration.reading_std_R[columns]
    for window in encoder.run_many(observations, windows_at_once=WINDOWS_AT_ONCE):
        surprise_N[row_of[window.tick]] = scorer.update(window).surprise
        if len(columns):
            now_G = window.readings_TR[-1, columns].astype(np.float64) * std_G + mean_G
            forecasts.now[window.tick] = now_G
            forecasts.fans[window.tick] = fans_in_units(window.forecast_HGQ, told.calibration)
    return surprise_N, forecasts


def _skill(found: _Forecasts, normal: set[int], tick_s: float) -> dict[str, float]:
    """Return 1 - error / error of persistence, and the share of values within the 90 % band.

    Errors are absolute, each tag's divided by how far it moves over the horizon on average, so
    that units do not count; tags that do not move at all say nothing.
    """
    skills, inside = dict[str, float](), list[NDArray[np.bool_]]()
    for row, horizon in enumerate(found.horizons):
        pairs = [t for t in found.fans if t + horizon in found.now and {t, t + horizon} <= normal]
        if not pairs:
            continue
        actual = np.array([found.now[t + horizon] for t in pairs])
        now = np.array([found.now[t] for t in pairs])
        low, median, high = (np.array([found.fans[t][i][row] for t in pairs]) for i in range(3))
        known = np.isfinite(actual) & np.isfinite(now)
        stays_G = np.where(known, np.abs(actual - now), 0.0).sum(axis=0)
        error_G = np.where(known, np.abs(actual - median), 0.0).sum(axis=0)
        moves_G = stays_G > 0
        if moves_G.any():
            skill = 1 - float(np.mean(error_G[moves_G] / stays_G[moves_G]))
            skills[f"skill_{horizon * tick_s:g}s"] = skill
        inside.append(((low <= actual) & (actual <= high))[known])
    within = np.concatenate(inside) if inside else np.array([], bool)
    return {
        "skill": statistics.fmean(skills.values()) if skills else math.nan,
        "coverage": float(within.mean()) if len(within) else math.nan,
        **skills,
    }


def _ticks(observations: Sequence[Observation]) -> NDArray[np.int64]:
    return np.array([each.tick for each in observations], np.int64)


def comparable(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of all figures, in the order of first appearance.

    Example:
        >>> comparable({"a": {"x": 1.0}, "b": {"y": 1.0, "x": 2.0}})
        ['x', 'y']
    """
    return list(dict.fromkeys(name for each in figures.values() for name in each))
