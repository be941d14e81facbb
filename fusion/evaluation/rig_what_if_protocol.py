"""The protocol *rig what-if*: learn from a normal run of the simulated rig, then advise another.

Nothing of the simulator but its recordings is seen before the advice is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from fusion.evaluation.calibrated import Calibrated, calibrate
from fusion.evaluation.rig_recording import rig_observations
from fusion.evaluation.rig_what_if import Trial, moments, rig_what_if
from fusion.planning import Goal, Search, parse_goal
from fusion.plant import Plant
from fusion.simulation import Scenario, normal_scenario
from fusion.training import Recipe, train

WISHES: tuple[dict[str, list[str]], ...] = (
    {"minimise": ["motor_current"], "keep": ["tank_level in 0.55..0.7"]},
    {"minimise": ["heater_power"], "keep": ["tank_temperature in 29..32"]},
    {"keep": ["tank_level near 0.62", "tank_temperature near 30.5"]},
    {
        "minimise": ["motor_temperature"],
        "keep": ["tank_level above 0.6", "tank_temperature above 30"],
    },
)
"""Thrift within a band, of each loop; two targets at once; thrift above two floors."""
TEST_SEED = 100
"""Added to the training's seed: the rig that is advised runs with other set-points and weather."""


def rig_goals(plant: Plant) -> list[Goal]:
    """Return the goals that the rig is advised for."""
    return [parse_goal(plant, **wishes) for wishes in WISHES]


def learn_rig(plant: Plant, recipe: Recipe, *, watched: Plant, minutes: float) -> Calibrated:
    """Return a model of a normal run of the rig; ``watched`` has the streams that it may see."""
    run = normal_scenario(duration_s=60 * minutes, seed=recipe.seed)
    observations = list(rig_observations(run, plant))
    trained = train(observations, watched, recipe)
    return calibrate(trained.model, recipe, observations, watched, normaliser=trained.normaliser)


def advise_rig(
    told: Calibrated,
    plant: Plant,
    *,
    seed: int,
    minutes: float = 40.0,
    every_s: float = 180.0,
    goals: Sequence[Goal] | None = None,
    search: Search | None = None,
) -> list[Trial]:
    """Return a trial of every goal at moments of another run of the rig, ``every_s`` apart."""
    scenario = Scenario(60 * minutes, TEST_SEED + seed)
    at = moments(scenario, plant, first_s=60.0, every_s=every_s)
    windows = told.windows_at(list(rig_observations(scenario, plant)), set(at))
    return rig_what_if(
        {at[tick]: window for tick, window in windows.items()},
        scenario=scenario,
        plant=told.plant,
        inference=told.inference,
        calibration=told.calibration,
        goals=rig_goals(told.plant) if goals is None else goals,
        search=search or Search(),
    )
