"""One model of many rigs, to be used on a rig that it never saw, with a calibration only.

Each rig is normalised by its own normal running: to the model, all of them are the same kind of
plant around zero. What differs between them beyond that it must read from its window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fusion.alignment import Observation
from fusion.errors import RecipeError
from fusion.evaluation.rig_recording import rig_observations
from fusion.features import TickFeatures, extract, fit_normaliser, layout_of
from fusion.model import Jepa
from fusion.model.gauges import measure
from fusion.plant import Plant
from fusion.simulation import Scenario, random_physics
from fusion.training import Recipe, StepReport, split
from fusion.training.descent import Descent
from fusion.training.loop import GAUGE_WINDOWS
from fusion.training.response import fit_response
from fusion.training.windows import Windows

GAP_TICKS = 2
"""Between the ticks of two rigs: no window reaches from one into another."""


def rig_of(seed: int, *, duration_s: float) -> Scenario:
    """Return a normal run of the rig whose physics ``seed`` draws."""
    return Scenario(duration_s, seed, physics=random_physics(seed))


def record_rigs(
    seeds: Sequence[int], plant: Plant, *, duration_s: float
) -> list[list[Observation]]:
    """Return a normal run of each rig, as ticks."""
    return [list(rig_observations(rig_of(s, duration_s=duration_s), plant)) for s in seeds]


def train_on_rigs(
    recordings: Sequence[Sequence[Observation]],
    plant: Plant,
    recipe: Recipe,
    *,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> Jepa:
    """Return a model trained on the older part of every recording; the newest is only gauged.

    Raises:
        RecipeError: There is no recording, or all are too short for one window.
    """
    if not recordings:
        raise RecipeError("training on rigs needs at least one recording, got none; record some")
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    draw, noise = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    features, held_out = _features(recordings, plant, recipe)
    seen, unseen = Windows(features, recipe.model), Windows(held_out, recipe.model)
    gauge_batch = unseen.batch(unseen.evenly(GAUGE_WINDOWS))
    model = Jepa(layout_of(plant), recipe.model)
    fit_response(model, features)
    descent = Descent(model, recipe)
    for step in range(recipe.steps):
        losses = model.loss(seen.batch(draw.integers(0, len(seen), recipe.batch_windows)), noise)
        descent.step(step, losses["total"])
        model.update_teacher()
        is_last = step == recipe.steps - 1
        gauges = measure(model, gauge_batch) if is_last else None
        told = {name: loss.item() for name, loss in losses.items()}
        on_step(StepReport(step + 1, recipe.steps, told, gauges))
    return model


def _features(
    recordings: Sequence[Sequence[Observation]], plant: Plant, recipe: Recipe
) -> tuple[TickFeatures, TickFeatures]:
    """Return the ticks to learn from and those to gauge on, each rig in its own normal."""
    seen: list[TickFeatures] = []
    unseen: list[TickFeatures] = []
    for recording in recordings:
        older, newer = split(recording, recipe)
        normaliser = fit_normaliser(older, plant)
        seen.append(extract(older, plant, normaliser))
        unseen.append(extract(newer, plant, normaliser))
    return joined(seen), joined(unseen)


def joined(parts: Sequence[TickFeatures]) -> TickFeatures:
    """Return the features of several recordings as one, with a gap of ticks between them."""
    ticks: list[int] = []
    for part in parts:
        begin = ticks[-1] + GAP_TICKS if ticks else 0
        ticks += [begin + tick - part.ticks[0] for tick in part.ticks]
    return TickFeatures(
        ticks=tuple(ticks),
        inputs={
            name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs
        },
        presence_NM=np.concatenate([part.presence_NM for part in parts]),
        setpoints_NU=np.concatenate([part.setpoints_NU for part in parts]),
        readings_NR=np.concatenate([part.readings_NR for part in parts]),
    )
