"""The closed-form response finds a known plant: its own course and its step responses."""

from __future__ import annotations

import numpy as np
import torch

from fusion.features import TickFeatures, extract, fit_normaliser, layout_of
from fusion.model import Jepa
from fusion.training.response import fit_response
from tests.unit.training.test_training import CONFIG, TINY, TRIO, trio_observations

NUM_TICKS = 3000


def first_order(seed: int = 0) -> TickFeatures:
    """Return a level that goes an eighth of the way to its set-point each tick; heat is noise."""
    rng = np.random.default_rng(seed)
    goal = np.repeat(rng.uniform(-0.3, 0.3, NUM_TICKS // 25), 25)
    level = np.zeros(NUM_TICKS)
    for tick in range(1, NUM_TICKS):
        level[tick] = level[tick - 1] + (4 * goal[tick] - level[tick - 1]) / 8
    readings_NR = np.stack([level, rng.normal(size=NUM_TICKS), np.zeros(NUM_TICKS)], axis=1)
    return TickFeatures(
        ticks=tuple(range(NUM_TICKS)),
        inputs={},
        presence_NM=np.ones((NUM_TICKS, 1), np.float32),
        setpoints_NU=goal[:, None].astype(np.float32),
        readings_NR=readings_NR.astype(np.float32),
    )


def expected(model: Jepa, level: float, now: float, plan_H: list[float]) -> np.ndarray:
    """Return the level that the response and the untrained readout expect, per horizon."""
    readings = torch.tensor([[[level, 0.0, 0.0]]])
    plan = torch.tensor(plan_H).view(1, 1, -1, 1)
    moved = model.response(readings, torch.full((1, 1, 1), now), plan)[0, 0, :, 0]
    kept_H = torch.sigmoid(model.readout.keep)[:, 0]
    return (moved + kept_H * level).detach().numpy()


def test_a_first_order_plant_is_found_with_its_step_response() -> None:
    torch.manual_seed(0)
    model = Jepa(layout_of(TINY), CONFIG)
    fit_response(model, first_order())
    rest_H = 1 - (7 / 8) ** np.array(CONFIG.horizons_ticks)
    np.testing.assert_allclose(expected(model, 0.0, 0.0, [0.0, 0.0, 0.0]), 0, atol=0.02)
    at_once = expected(model, 0.0, 0.0, [0.25, 0.25, 0.25])
    np.testing.assert_allclose(at_once, rest_H, atol=0.08)
    falling = expected(model, 1.0, 0.0, [0.0, 0.0, 0.0])
    np.testing.assert_allclose(falling, 1 - rest_H, atol=0.08)


def test_a_late_move_moves_the_plant_less_than_a_move_now() -> None:
    torch.manual_seed(0)
    model = Jepa(layout_of(TINY), CONFIG)
    fit_response(model, first_order())
    now, late = (expected(model, 0.0, 0.0, plan) for plan in ([0.25] * 3, [0.0, 0.0, 0.25]))
    assert late[2] < now[2] - 0.1


def test_ticks_with_missing_readings_and_too_few_ticks_are_left_out() -> None:
    recorded = trio_observations(14)
    model = Jepa(layout_of(TRIO), CONFIG)
    fit_response(model, extract(recorded, TRIO, fit_normaliser(recorded, TRIO)))
    weight = model.response.get_buffer("weight")
    assert bool(weight.isfinite().all())
    assert not weight[2].any(), "no tick has another sixteen ticks later"
