"""The training loop: observations in, a model that predicts the embedding of the future out.

Reads top to bottom: features once, windows, then step after step the loss of one batch, with the
gauges of held-out windows at the start, along the way and at the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusion.alignment import Observation
from fusion.errors import CollapseError
from fusion.features import Normaliser, extract, fit_normaliser, layout_of
from fusion.model import Batch, Jepa
from fusion.model.gauges import measure
from fusion.plant import Plant
from fusion.training import checkpoint
from fusion.training.descent import Descent
from fusion.training.parallel import ONE_PROCESS, Ranks
from fusion.training.recipe import Recipe
from fusion.training.response import fit_response
from fusion.training.windows import Windows

log = logging.getLogger(__name__)

GAUGE_WINDOWS = 64
GOLDEN_WINDOWS = 3
MIN_RANK = 3.0
MIN_STD = 0.02
PATIENCE_GAUGES = 2
"""A run that looks collapsed at this many measurements in a row stops."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a watcher sees of one step."""

    step: int
    steps: int
    losses: dict[str, float]
    gauges: dict[str, float] | None


@dataclass(slots=True)
class Trained:
    """What came out of a run."""

    model: Jepa
    normaliser: Normaliser
    recipe: Recipe
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def train(
    observations: Sequence[Observation],
    plant: Plant,
    recipe: Recipe,
    *,
    on_step: Callable[[StepReport], None] = lambda _: None,
    checkpoint_dir: Path | None = None,
    ranks: Ranks = ONE_PROCESS,
    may_collapse: bool = False,
) -> Trained:
    """Return a model of ``plant`` trained on the older part of ``observations``.

    The newest ``recipe.held_out`` part is only measured on. Equal inputs and recipe give an equal
    model on the same machine; it runs on a GPU if there is one, and comes back on the CPU. With
    ``checkpoint_dir`` the run is saved at every measurement, and goes on from what is saved there,
    to the model that it would have made uninterrupted.

    Several ``ranks`` divide every batch among them and make the same model, to rounding. All call
    this with the same arguments and get the same reports; only the first writes checkpoints.

    With ``may_collapse`` a run goes on though its embedding tells little: what is only compared
    with needs no embedding to have a control chart. One that is no number stops all the same.

    Raises:
        RecipeError: The observations are too few for one window, the checkpoint is of another
            run, or the batch cannot be divided among the ranks.
        CollapseError: The embedding lost its information, or is no number any more; says which
            gauge and what to try.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    draw, noise = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    seen, held_out = split(observations, recipe)
    normaliser = fit_normaliser(seen, plant)
    features = extract(seen, plant, normaliser)
    windows = Windows(features, recipe.model)
    unseen = Windows(extract(held_out, plant, normaliser), recipe.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gauge_batch = unseen.batch(unseen.evenly(GAUGE_WINDOWS)).to(device)

    model = Jepa(layout_of(plant), recipe.model, ranks)
    fit_response(model, features)
    model = model.to(device)
    descent = Descent(model, recipe)
    trained = Trained(model, normaliser, recipe)
    run = checkpoint.Run(model, descent.optimiser, draw, noise, trained.history)
    identity = checkpoint.identify(recipe, normaliser, len(windows))
    ranks.require_equal(identity)
    start = checkpoint.restore(run, checkpoint_dir, identity=identity) if checkpoint_dir else 0
    ranks.require_equal(f"begins at step {start}")
    shared = ranks.share(_compiled(model) if recipe.compile else model)

    for step in range(start, recipe.steps + 1):
        gauges = None
        if step % recipe.gauge_every == 0 or step == recipe.steps:
            if checkpoint_dir and ranks.rank == 0:
                checkpoint.save(run, checkpoint_dir, step=step, identity=identity)
            gauges = measure(model, gauge_batch)
            trained.history.append({"step": step, **gauges})
            problem = _diverged(trained.history)
            collapse = _collapsed(trained.history)
            if collapse is not None and may_collapse:
                log.warning("%s: not here, where the rest is measured all the same", collapse)
            elif problem is None:
                problem = collapse
            if ranks.any(is_so=problem is not None):
                on_step(StepReport(step, recipe.steps, {}, gauges))
                raise CollapseError(problem or "the embedding collapsed in another process")
        if step == recipe.steps:
            on_step(StepReport(step, recipe.steps, {}, gauges))
            break
        which = draw.integers(0, len(windows), size=recipe.batch_windows)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            batch = windows.batch(ranks.own(which)).to(device)
            losses: dict[str, Tensor] = shared(batch, model.chances(batch, noise))
        descent.step(step, losses["total"])
        model.update_teacher()
        on_step(StepReport(step, recipe.steps, {k: v.item() for k, v in losses.items()}, gauges))
    model.cpu()
    return trained


def split(
    observations: Sequence[Observation], recipe: Recipe
) -> tuple[Sequence[Observation], Sequence[Observation]]:
    """Return the older part, to learn from, and the newest, to measure and calibrate on."""
    at = round(len(observations) * (1 - recipe.held_out))
    return observations[:at], observations[at:]


def golden_batch(trained: Trained, observations: Sequence[Observation], plant: Plant) -> Batch:
    """Return a few held-out windows: every server of this model must answer them alike."""
    windows = Windows(extract(observations, plant, trained.normaliser), trained.recipe.model)
    return windows.batch(windows.evenly(GOLDEN_WINDOWS))


def _compiled(model: Jepa) -> nn.Module:
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module), "a compiled module is one"
    return compiled


def _diverged(history: Sequence[dict[str, float]]) -> str | None:
    """Return why a run whose embedding is no number must stop."""
    if not math.isfinite(history[-1]["std_mean"]):
        return (
            f"the embedding must stay finite, it did not up to step {history[-1]['step']:.0f}; "
            "the run was stopped. Try a lower learning rate"
        )
    return None


def _collapsed(history: Sequence[dict[str, float]]) -> str | None:
    """Return why a run whose embedding says nothing must stop. The first step may be anything."""
    recent = [gauges for gauges in history if gauges["step"] > 0][-PATIENCE_GAUGES:]
    if len(recent) < PATIENCE_GAUGES:
        return None
    for gauge, least in (("rankme", MIN_RANK), ("std_mean", MIN_STD)):
        if all(gauges[gauge] < least for gauges in recent):
            return (
                f"the embedding must keep {gauge} above {least:g}, got "
                f"{[round(gauges[gauge], 3) for gauges in recent]} up to step "
                f"{recent[-1]['step']:.0f}; the run was stopped. Try a lower learning rate, a "
                "larger batch, or check that the recording is not constant"
            )
    return None
