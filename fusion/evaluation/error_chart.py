"""A control chart on vectors that are 0 when all is as expected, with the product's own maths.

Centres, whiteners, running averages, tails and the threshold come from the functions that
calibrate the product (:mod:`fusion.scoring.fitting`): what another method lacks, it does not lack
for want of calibration.

Shapes: N ticks, V values of one stream's vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.errors import RecipeError
from fusion.evaluation.baselines import OFF_DELAY_S, ON_DELAY_S
from fusion.plant import Plant
from fusion.scoring.fitting import MIN_WINDOWS, NUM_FOLDS
from fusion.scoring.members import FORGETTING
from fusion.scoring.normal import MAX_DISTANCE
from fusion.scoring.tails import Tail, fit_tail, rarities, threshold_for_budget
from fusion.scoring.whitening import fit_whitener, limited, log_distance, running_averages

Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ErrorChart:
    """What is normal for the errors of each stream."""

    centres: Mapping[str, Vectors]
    whiteners: Mapping[tuple[str, float], Vectors]
    tails: Mapping[tuple[str, float], Tail]
    threshold: float

    def surprise(self, errors: Mapping[str, Vectors]) -> Vectors:
        """Return the strongest rarity of any stream's errors at each tick, [N]; 1 is the threshold.

        NaN, where nothing is known, is no error.
        """
        return np.max([*self._rarities(errors)], axis=0) / self.threshold

    def _rarities(self, errors: Mapping[str, Vectors]) -> Iterator[Vectors]:
        for stream, errors_NV in errors.items():
            centred_NV = np.nan_to_num(errors_NV) - self.centres[stream]
            at_once = self.whiteners[stream, FORGETTING[0]]
            for weight, averages_NV in _accumulated(centred_NV, at_once):
                distance_N = log_distance(averages_NV, self.whiteners[stream, weight])
                yield rarities(self.tails[stream, weight], distance_N)


def fit_error_chart(errors: Mapping[str, Vectors], plant: Plant, *, num_learned: int) -> ErrorChart:
    """Return the chart of a normal run, of which a method learned from the first ``num_learned``.

    As for the product, all ticks say what is normal, and those that learning never saw say how
    rare a distance is, each part of them held against all the others.

    Raises:
        RecipeError: The part that was not learned from is too short.
    """
    num_unseen = min(map(len, errors.values())) - num_learned
    if num_unseen < MIN_WINDOWS:
        raise RecipeError(
            f"a chart needs at least {MIN_WINDOWS} ticks of normal running that were not learned "
            f"from, got {num_unseen}; record longer, or hold out a larger part"
        )
    centres: dict[str, Vectors] = {}
    whiteners: dict[tuple[str, float], Vectors] = {}
    tails: dict[tuple[str, float], Tail] = {}
    found: list[Vectors] = []
    for stream, errors_NV in errors.items():
        known_NV = np.nan_to_num(errors_NV)
        centres[stream] = known_NV.mean(axis=0)
        centred_NV = known_NV - centres[stream]
        folds = np.array_split(np.arange(num_learned, len(centred_NV)), NUM_FOLDS)
        for weight, averages_NV in _accumulated(centred_NV, fit_whitener(centred_NV)):
            key = stream, weight
            whiteners[key] = fit_whitener(centred_NV, weight=weight)
            parts = [
                log_distance(
                    averages_NV[fold],
                    fit_whitener(np.delete(centred_NV, fold, axis=0), weight=weight),
                )
                for fold in folds
            ]
            distance_N = np.concatenate(parts)
            independent = weight / (2 - weight) * len(distance_N)
            tails[key] = fit_tail(distance_N, num_independent=independent)
            found.append(rarities(tails[key], distance_N))
    budget = threshold_for_budget(
        np.max(found, axis=0),
        tick_s=plant.tick_s,
        on_delay_ticks=round(ON_DELAY_S / plant.tick_s),
        off_delay_ticks=round(OFF_DELAY_S / plant.tick_s),
        per_day=plant.scoring.false_alarms_per_day,
    )
    return ErrorChart(centres, whiteners, tails, budget.threshold)


def _accumulated(centred_NV: Vectors, at_once_VV: Vectors) -> Iterator[tuple[float, Vectors]]:
    """Yield the running averages for each weight of the newest tick."""
    limited_NV = limited(centred_NV, at_once_VV, most=MAX_DISTANCE)
    for weight in FORGETTING:
        yield weight, centred_NV if weight == 1 else running_averages(limited_NV, weight)
