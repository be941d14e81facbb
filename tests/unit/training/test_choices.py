"""Every target and every regulariser: a run stays alive, and gradients go where the name says."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.alignment import Observation
from fusion.features import extract, fit_normaliser, layout_of
from fusion.model import Jepa
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, train
from fusion.training.windows import Windows
from tests.unit.training.tiny import recipe as tiny_recipe

Target = Literal["live", "stopgrad", "ema"]
Regulariser = Literal["sigreg", "vicreg"]
SIX = list(product(("live", "stopgrad", "ema"), ("sigreg", "vicreg")))
PLANT: Plant = parse_plant(
    """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [-5, 5]}, {name: heat, unit: K, range: [-5, 5]},
      {name: flow, unit: l/min, range: [-5, 5]},
      {name: goal, unit: m, range: [-1, 1], setpoint: true}]}
  - {name: motor, modality: telemetry, rate_hz: 4, tags: [
      {name: current, unit: A, range: [-5, 5]}, {name: speed, unit: rpm, range: [-5, 5]}]}
""",
    origin="duo.yaml",
)


def recipe(target: Target, regulariser: Regulariser) -> Recipe:
    return tiny_recipe(
        target=target,
        regulariser=regulariser,
        horizons_ticks=(1, 4, 16),
        steps=60,
        batch_windows=32,
        warmup_steps=5,
        gauge_every=20,
    )


def recording(count: int = 400) -> list[Observation]:
    """Synthetic telemetry: two groups of tags that swing together, each with its own noise."""
    draw = np.random.default_rng(0)
    ticks: list[Observation] = []
    for tick in range(count):
        phase = 2 * np.pi * (tick + np.arange(2)[:, None] / 2) / np.array([37, 23, 51, 37, 51])
        rows = (np.sin(phase) + 0.1 * draw.standard_normal(phase.shape)).astype(np.float32)
        goal = np.full((2, 1), tick // 40 % 2, np.float32)
        senses = {"process": np.concatenate([rows[:, :3], goal], axis=1), "motor": rows[:, 3:]}
        ticks.append(Observation(tick, senses, dict.fromkeys(senses, 1.0)))
    return ticks


TICKS = recording()


@pytest.mark.parametrize(("target", "regulariser"), SIX)
def test_a_run_stays_alive_and_learns(target: Target, regulariser: Regulariser) -> None:
    totals: list[float] = []
    trained = train(
        TICKS,
        PLANT,
        recipe(target, regulariser),
        on_step=lambda report: totals.append(report.losses["total"]) if report.losses else None,
    )
    last = trained.history[-1]
    assert last["rankme"] > 4
    assert 0.2 < last["std_mean"] < 3
    assert last["probe_r2"] > 0.3
    assert np.mean(totals[-10:]) < 0.8 * np.mean(totals[:10])


def pull(target: Target, regulariser: Regulariser, terms: list[str], ticks: slice) -> float:
    """Return how strongly ``terms`` pull at what the encoder reads in ``ticks`` of a window."""
    torch.manual_seed(0)
    config = recipe(target, regulariser).model
    model = Jepa(layout_of(PLANT), config)
    windows = Windows(extract(TICKS, PLANT, fit_normaliser(TICKS, PLANT)), config)
    batch = windows.batch(np.arange(8))
    leaves: list[Tensor] = [values.requires_grad_() for values in batch.inputs.values()]
    losses = model.loss(batch, torch.Generator().manual_seed(0))
    torch.stack([losses[name] for name in terms]).sum().backward()
    return sum(
        0.0 if leaf.grad is None else leaf.grad[:, ticks].abs().sum().item() for leaf in leaves
    )


@pytest.mark.parametrize(("target", "regulariser"), SIX)
def test_predictions_pull_at_their_targets_only_when_these_are_live(
    target: Target, regulariser: Regulariser
) -> None:
    # Of the far ticks nothing but targets are made.
    pulled = pull(target, regulariser, ["predict_z", "predict_p"], slice(8, None))
    assert (pulled > 0) == (target == "live")
    assert pull(target, regulariser, ["predict_z", "predict_p"], slice(0, 8)) > 0


@pytest.mark.parametrize(("target", "regulariser"), SIX)
def test_the_regulariser_holds_the_encoder_whatever_the_target(
    target: Target, regulariser: Regulariser
) -> None:
    assert pull(target, regulariser, ["regularise"], slice(0, 8)) > 0


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_a_teacher_follows_and_never_learns_by_itself(regulariser: Regulariser) -> None:
    model = train(TICKS, PLANT, recipe("ema", regulariser).model_copy(update={"steps": 20})).model
    assert model.teacher is not None
    teacher, encoder = model.teacher.state_dict(), model.encoder.state_dict()
    apart = [name for name in encoder if not torch.equal(teacher[name], encoder[name])]
    assert apart, "a teacher that is the encoder is none"
    assert all(weights.grad is None for weights in model.teacher.parameters())
