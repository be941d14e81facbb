"""Simple methods with the same care: PCA's T2 and SPE on telemetry, and each stream alone.

Shapes: N ticks, G measured tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from fusion.alarms import AlarmEngine
from fusion.alignment import Observation
from fusion.plant import Plant, TelemetryStream
from fusion.schema import AlarmEvent, Score
from fusion.scoring import Calibration
from fusion.scoring.calibration import WHOLE, is_in_panel
from fusion.scoring.members import kind_of
from fusion.scoring.tails import Tail, fit_tail, threshold_for_budget

EXPLAINED = 0.9
ON_DELAY_S, OFF_DELAY_S = 2.0, 10.0


@dataclass(frozen=True, slots=True)
class PcaChart:
    """T2 and SPE of a principal component model (Kourti & MacGregor 1995), as one rarity."""

    mean_G: NDArray[np.float64]
    std_G: NDArray[np.float64]
    pca: PCA
    threshold: float
    tails: tuple[Tail, Tail]

    def surprise(self, tags_NG: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the larger of both rarities for each tick; 1 is the threshold."""
        return _rarities(tags_NG, self.mean_G, self.std_G, self.pca, self.tails) / self.threshold


def fit_pca_chart(tags_NG: NDArray[np.float64], plant: Plant, *, held_out: float) -> PcaChart:
    """Return the chart fitted on the older part, with its threshold from the newest part."""
    at = round(len(tags_NG) * (1 - held_out))
    older, newer = (part[np.isfinite(part).all(axis=1)] for part in (tags_NG[:at], tags_NG[at:]))
    mean_G, std_G = older.mean(axis=0), older.std(axis=0)
    std_G = np.where(std_G > 1e-9, std_G, 1.0)
    pca = PCA(n_components=EXPLAINED, svd_solver="full").fit((older - mean_G) / std_G)
    statistics = _statistics(newer, mean_G, std_G, pca)
    tails = (fit_tail(statistics[0]), fit_tail(statistics[1]))
    budget = threshold_for_budget(
        _rarities(newer, mean_G, std_G, pca, tails),
        tick_s=plant.tick_s,
        on_delay_ticks=round(ON_DELAY_S / plant.tick_s),
        off_delay_ticks=round(OFF_DELAY_S / plant.tick_s),
        per_day=plant.scoring.false_alarms_per_day,
    )
    return PcaChart(mean_G, std_G, pca, budget.threshold, tails)


def tag_means(observations: Sequence[Observation], plant: Plant) -> NDArray[np.float64]:
    """Return the mean of every measured tag in every tick, [N, G]; NaN where it is missing."""
    parts: list[NDArray[np.float64]] = []
    for stream in plant.telemetry_streams:
        measured = [i for i, tag in enumerate(stream.tags) if not tag.setpoint]
        rows = [_means(o, stream, measured) for o in observations]
        parts.append(np.stack(rows))
    return np.concatenate(parts, axis=1)


def alone(scores: Iterable[Score], stream: str, calibration: Calibration) -> list[Score]:
    """Return the scores as they would be if only ``stream`` were watched."""
    panel = f"@{stream}"
    if panel not in calibration.panels:
        return []
    return [
        score.model_copy(
            update={"surprise": panel_surprise(score.members, calibration, panel, default=0.0)}
        )
        for score in scores
    ]


def panel_surprise(
    members: Mapping[str, float], calibration: Calibration, panel: str, *, default: float
) -> float:
    """Return the surprise as it would be if only one panel's members were asked."""
    whole, own = calibration.panels[WHOLE], calibration.panels[panel]
    surprises = [
        own.surprise(kind, whole.rarity(kind, value))
        for key, value in members.items()
        for kind in [kind_of(key)]
        if is_in_panel(key, panel)
    ]
    return max(surprises, default=default)


def alarms_of(scores: Iterable[Score], plant: Plant) -> list[AlarmEvent]:
    """Return what the alarm engine makes of ``scores``, forecasts left out."""
    engine = AlarmEngine(plant)
    return [
        event
        for score in scores
        for event in engine.update(score.model_copy(update={"forecasts": ()}))
    ]


def _means(
    observation: Observation, stream: TelemetryStream, measured: list[int]
) -> NDArray[np.float64]:
    if not observation.is_present(stream.name):
        return np.full(len(measured), np.nan)
    values_SG = observation.senses[stream.name][:, measured].astype(np.float64)
    known = np.isfinite(values_SG)
    return np.where(
        known.any(axis=0), np.nansum(values_SG, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )


def _statistics(
    tags_NG: NDArray[np.float64], mean_G: NDArray[np.float64], std_G: NDArray[np.float64], pca: PCA
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log T2 and log SPE per tick."""
    # A tag that is missing is taken for ordinary.
    scaled_NG = np.nan_to_num((tags_NG - mean_G) / std_G)
    parts = pca.transform(scaled_NG)
    t2 = (parts**2 / pca.explained_variance_).sum(axis=1)
    spe = ((scaled_NG - pca.inverse_transform(parts)) ** 2).sum(axis=1)
    return np.log(t2 + 1e-9), np.log(spe + 1e-9)


def _rarities(
    tags_NG: NDArray[np.float64],
    mean_G: NDArray[np.float64],
    std_G: NDArray[np.float64],
    pca: PCA,
    tails: tuple[Tail, Tail],
) -> NDArray[np.float64]:
    t2, spe = _statistics(tags_NG, mean_G, std_G, pca)
    return np.array(
        [max(tails[0].rarity(a), tails[1].rarity(b)) for a, b in zip(t2, spe, strict=True)]
    )
