"""Who watches the rig in the protocol *rig*: each learns from a normal run, then is asked.

A method is a function from the ticks of a run to its surprise of each, 1 being its own threshold.

Shapes: N ticks, R readings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.evaluation.baselines import fit_pca_chart, tag_means
from fusion.evaluation.calibrated import Calibrated, calibrate
from fusion.evaluation.scored import score_recording
from fusion.features import Normaliser, extract, fit_normaliser
from fusion.plant import Plant
from fusion.training import Recipe, StepReport, split, train

Floats = NDArray[np.float64]
Watch = Callable[[Sequence[Observation]], Floats]
Hear = Callable[[StepReport], None]
TICKS_AT_ONCE = 256


def learn_product(
    observations: Sequence[Observation], plant: Plant, recipe: Recipe, on_step: Hear
) -> Calibrated:
    """Return the product after a normal run of ``plant``, which says what it may see."""
    return learn_for_budgets(observations, [plant], recipe, on_step)[0]


def learn_for_budgets(
    observations: Sequence[Observation],
    plants: Sequence[Plant],
    recipe: Recipe,
    on_step: Hear,
    *,
    may_collapse: bool = False,
) -> list[Calibrated]:
    """Return one model, calibrated for each of ``plants``: they differ in their budgets only."""
    trained = train(observations, plants[0], recipe, on_step=on_step, may_collapse=may_collapse)
    return [
        calibrate(trained.model, recipe, observations, plant, normaliser=trained.normaliser)
        for plant in plants
    ]


def watch(told: Calibrated) -> Watch:
    """Return how the product watches."""
    return lambda observations: score_recording(told, observations).surprise_N


def watch_tags(observations: Sequence[Observation], plant: Plant, recipe: Recipe) -> Watch:
    """Return PCA's T2 and SPE on the measured tags."""
    chart = fit_pca_chart(tag_means(observations, plant), plant, held_out=recipe.held_out)
    return lambda asked: chart.surprise(tag_means(asked, plant))


def watch_readings(observations: Sequence[Observation], plant: Plant, recipe: Recipe) -> Watch:
    """Return PCA's T2 and SPE on all that is read off every stream."""
    normaliser = fit_normaliser(split(observations, recipe)[0], plant)
    learned_NR = _readings(observations, plant, normaliser)
    chart = fit_pca_chart(learned_NR, plant, held_out=recipe.held_out)
    return lambda asked: chart.surprise(_readings(asked, plant, normaliser))


def _readings(observations: Sequence[Observation], plant: Plant, normaliser: Normaliser) -> Floats:
    """Return the standardised readings of each tick, [N, R]; pictures are not kept."""
    parts = [
        extract(observations[begin : begin + TICKS_AT_ONCE], plant, normaliser).readings_NR
        for begin in range(0, len(observations), TICKS_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)
