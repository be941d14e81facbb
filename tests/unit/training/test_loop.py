"""Training on two senses: every choice trains, the future is only measured, divergence is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fusion.alignment import Observation
from fusion.errors import CollapseError
from fusion.features import fit_normaliser
from fusion.model import Jepa, ModelConfig
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, StepReport, split, train

PLANT: Plant = parse_plant(
    """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [-5, 5]}, {name: heat, unit: K, range: [-5, 5]},
      {name: flow, unit: l/min, range: [-5, 5]}, {name: current, unit: A, range: [-5, 5]},
      {name: goal, unit: m, range: [-1, 1], setpoint: true}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
""",
    origin="duo.yaml",
)
RECIPE = Recipe(
    name="test",
    model=ModelConfig(width=32, window_ticks=8, horizons_ticks=(1, 4, 16)),
    steps=12,
    batch_windows=8,
    warmup_steps=3,
    gauge_every=4,
    threads=1,
)


def recording(count: int = 160) -> list[Observation]:
    """Return a plant that swings slowly, and hums louder the higher its level is."""
    draw = np.random.default_rng(0)
    ticks = []
    for tick in range(count):
        phase = 2 * np.pi * (tick + np.arange(2)[:, None] / 2) / np.array([37, 23, 51, 67])
        measured = np.sin(phase) + 0.02 * draw.standard_normal(phase.shape)
        goal = np.full((2, 1), float(tick // 40 % 2))
        rows_SC = np.concatenate([measured, goal], axis=1)
        wave_N = 8_000 * (1.5 + measured[0, 0]) * np.sin(np.arange(2_000) / 4)
        senses = {
            "process": rows_SC.astype(np.float32),
            "ear": wave_N.astype(np.int16),
        }
        ticks.append(Observation(tick, senses, dict.fromkeys(senses, 1.0)))
    return ticks


TICKS = recording()


def weights(model: Jepa) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def reports(observations: Sequence[Observation], recipe: Recipe) -> list[StepReport]:
    seen: list[StepReport] = []
    train(observations, PLANT, recipe, on_step=seen.append)
    return seen


def test_the_newest_part_is_never_learned_from() -> None:
    seen, held_out = split(TICKS, RECIPE)
    assert [*seen, *held_out] == TICKS
    assert len(held_out) == pytest.approx(RECIPE.held_out * len(TICKS), abs=1)
    upset = [
        Observation(
            o.tick, {"process": 3 * np.asarray(o.senses["process"], np.float32)}, {"process": 1.0}
        )
        for o in held_out
    ]
    one, other = train(TICKS, PLANT, RECIPE), train([*seen, *upset], PLANT, RECIPE)
    assert torch.equal(weights(one.model), weights(other.model))
    assert one.history != other.history
    learned = fit_normaliser(seen, PLANT).statistics
    for name, values in one.normaliser.statistics.items():
        np.testing.assert_array_equal(values, learned[name])


def test_gauges_are_measured_from_step_0_to_the_end() -> None:
    seen = reports(TICKS, RECIPE)
    assert [report.step for report in seen] == list(range(RECIPE.steps + 1))
    assert [report.step for report in seen if report.gauges is not None] == [0, 4, 8, 12]
    for report in seen:
        assert all(np.isfinite(value) for value in (report.gauges or {}).values())


def test_a_run_that_diverges_stops_with_a_reason() -> None:
    wild = RECIPE.model_copy(update={"learning_rate": 1e12, "warmup_steps": 1})
    with pytest.raises(CollapseError, match="learning rate"):
        train(TICKS, PLANT, wild)


@pytest.mark.parametrize("target", ["live", "stopgrad", "ema"])
@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_every_choice_of_target_and_regulariser_trains(target: str, regulariser: str) -> None:
    model = ModelConfig.model_validate(
        {**RECIPE.model.model_dump(), "target": target, "regulariser": regulariser}
    )
    trained = train(TICKS, PLANT, RECIPE.model_copy(update={"model": model, "steps": 2}))
    assert torch.isfinite(weights(trained.model)).all()
