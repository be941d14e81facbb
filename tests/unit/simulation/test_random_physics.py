"""Other rigs differ, are the same for the same seed, and their controllers still control."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from fusion.simulation import Physics, Scenario, random_physics
from fusion.simulation.dynamics import COLUMNS, Rig
from fusion.simulation.random_physics import SPREAD, VARIED, is_runnable

SEEDS = range(6)


def test_the_demo_rig_itself_could_have_been_drawn() -> None:
    assert is_runnable(Physics())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rig_is_the_same_for_its_seed_and_near_the_demo_rig(seed: int) -> None:
    drawn, demo = asdict(random_physics(seed)), asdict(Physics())
    assert drawn == asdict(random_physics(seed))
    assert drawn != asdict(random_physics(seed + 1))
    for name in VARIED:
        assert abs(drawn[name] / demo[name] - 1) <= SPREAD
    assert drawn["tank_height_m"] == demo["tank_height_m"]


@pytest.mark.parametrize("seed", SEEDS)
def test_level_and_temperature_follow_their_set_points(seed: int) -> None:
    scenario = Scenario(600.0, seed=seed + 50, physics=random_physics(seed))
    rig = Rig(scenario)
    rows_KC = np.concatenate([rig.block() for _ in range(60)])
    run = {name: rows_KC[:, index] for index, name in enumerate(COLUMNS)}
    for tag, near in (("level", 0.08), ("temperature", 0.8)):
        setpoint = run[f"{tag}_setpoint"]
        is_last = np.flatnonzero(np.diff(setpoint))  # (when it has had the most time)
        assert np.abs(run[tag] - setpoint)[is_last].mean() < near
    assert run["level"].min() > 0.3, "no limit of the plant file is passed"
    assert run["level"].max() < 0.95
    assert run["motor_temperature"].max() < 62
    assert (run["heater_kw"] >= scenario.physics.heater_max_kw).mean() < 0.2
