"""The protocol that rates advice on the simulated rig: its truth, its optimum, its share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.evaluation.rig_what_if import Truth, moments, rig_what_if, share_of_optimum
from fusion.evaluation.rig_what_if_protocol import advise_rig, learn_rig, rig_goals
from fusion.features import layout_of
from fusion.model import WindowOutputs
from fusion.planning import PlanReader, Search, parse_goal
from fusion.planning.space import scaled
from fusion.plant import Plant, parse_plant
from fusion.scoring import Calibration
from fusion.scoring.normal import Normal
from fusion.simulation import Scenario
from fusion.simulation.dynamics import COLUMNS, Rig
from fusion.training import recipe_named

RIG: Plant = parse_plant(
    (Path(__file__).parents[3] / "plants" / "rig.yaml").read_text(encoding="utf-8"),
    origin="rig.yaml",
)
LAYOUT = layout_of(RIG)
HORIZONS = (2, 40, 80)
NUM_TICKS = 4
SCENARIO = Scenario(120.0, seed=3)
LEVEL = [tag.name for tag in RIG.measured].index("tank_level")
GOAL = parse_goal(RIG, keep=["tank_level near 0.72"])
Floats = NDArray[np.float32]


class Follows:
    """A crude model of the rig: after 20 s the level is what its set-point was set to."""

    def infer(self, network: str, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
        assert network == "predictor"
        plan_BHU = np.asarray(inputs["plan"], np.float32)[:, -1]
        forecast = np.zeros((*plan_BHU.shape[:2], len(RIG.measured), 3), np.float32)
        low, high = RIG.setpoints[0].range
        level_BH = low + (plan_BHU[..., 0] + 1) / 2 * (high - low)
        forecast[:, :, LEVEL] = ((level_BH - 0.6) / 0.07)[..., None]
        return {
            "z_ahead": np.zeros((len(plan_BHU), len(HORIZONS), 1), np.float32),
            "forecast": forecast,
        }

    def close(self) -> None:
        """Nothing to free."""


def calibration() -> Calibration:
    mean_R, std_R = np.zeros(LAYOUT.num_readings), np.ones(LAYOUT.num_readings)
    mean_R[LEVEL], std_R[LEVEL] = 0.6, 0.07
    # The band at rest is far from every limit: nothing but the level is forecast here.
    mean_R[[tag.name for tag in RIG.measured].index("motor_temperature")] = 45.0
    return Calibration(
        layout=LAYOUT,
        horizons_ticks=HORIZONS,
        tick_s=RIG.tick_s,
        normal=Normal({}, {}, {}),
        without={},
        panels={},
        caveat="",
        reading_mean_R=mean_R,
        reading_std_R=std_R,
        residual_std_R=std_R,
        widen_HG=np.full((len(HORIZONS), len(RIG.measured)), 0.1),
    )


def at(start_s: float) -> tuple[Rig, WindowOutputs]:
    """Return the rig at a moment of its run, and a window that ends there."""
    rig = Rig(SCENARIO)
    rows_KC = rig.block()
    while rig.time_s < start_s:
        rows_KC = rig.block()
    setpoints_U = rows_KC[-1, [COLUMNS.index(tag.name) for tag in RIG.setpoints]]
    readings_R = np.zeros(LAYOUT.num_readings, np.float32)
    readings_R[LEVEL] = (rows_KC[-1, 0] - 0.6) / 0.07
    num_streams, num_horizons = len(RIG.streams), len(HORIZONS)
    return rig, WindowOutputs(
        tick=0,
        presence_TM=np.ones((NUM_TICKS, num_streams), np.float32),
        z_TD=np.zeros((NUM_TICKS, 1), np.float32),
        p_TMP=np.zeros((NUM_TICKS, num_streams, 1), np.float32),
        cross_TMP=np.zeros((NUM_TICKS, num_streams, 1), np.float32),
        readings_TR=np.tile(readings_R, (NUM_TICKS, 1)),
        cross_readings_TR=np.zeros((NUM_TICKS, LAYOUT.num_readings), np.float32),
        z_due_SD=np.zeros((num_horizons, 1), np.float32),
        p_due_SMP=np.zeros((num_horizons, num_streams, 1), np.float32),
        readings_due_SR=np.zeros((num_horizons, LAYOUT.num_readings), np.float32),
        z_ahead_HD=np.zeros((num_horizons, 1), np.float32),
        forecast_HGQ=np.zeros((num_horizons, len(RIG.measured), 3), np.float32),
        setpoints_TU=np.tile(scaled(setpoints_U, RIG), (NUM_TICKS, 1)),
        usable={},
    )


def truth(start_s: float = 20.0) -> Truth:
    rig, window = at(start_s)
    reader = PlanReader.at(
        window, inference=Follows(), plant=RIG, calibration=calibration(), moves_s=(0.0,)
    )
    return Truth(rig, SCENARIO, reader, num_futures=2)


def test_a_true_cost_is_that_of_the_readings_without_noise() -> None:
    told = truth()
    hold = told.reader.space.hold()
    level_FL = told.play(hold)["tank_level"]
    assert level_FL.shape == (2, HORIZONS[-1])
    expected = 10 * (((level_FL - 0.72) / 0.07) ** 2).mean()
    assert told.wishes(GOAL, hold) == pytest.approx(expected)
    assert told.limits_broken(hold) == ()


def test_the_optimum_is_no_worse_than_what_was_tried_and_lies_in_the_box() -> None:
    told = truth()
    best_KU, least = told.best(GOAL)
    space = told.reader.space
    for level in (0.5, 0.6, 0.75):
        assert least <= told.cost(GOAL, space.scenario({"level_setpoint": level})) + 1e-9
    assert (best_KU >= space.low_U).all()
    assert (best_KU <= space.high_U).all()


def test_a_plan_that_breaks_a_limit_is_no_optimum() -> None:
    rig, window = at(20.0)
    tags = tuple(
        tag.model_copy(update={"limits": tag.limits.model_copy(update={"low": 0.55})})
        if tag.name == "tank_level" and tag.limits is not None
        else tag
        for tag in RIG.streams[0].tags  # type: ignore[union-attr]
    )
    strict = RIG.model_copy(
        update={"streams": (RIG.streams[0].model_copy(update={"tags": tags}), *RIG.streams[1:])}
    )
    reader = PlanReader.at(window, inference=Follows(), plant=strict, calibration=calibration())
    told = Truth(rig, SCENARIO, reader, num_futures=2)
    low = reader.space.scenario({"level_setpoint": 0.5})
    assert told.limits_broken(low) == ("tank_level",)
    assert told.cost(GOAL, low) == math.inf


def test_a_crude_model_reaches_a_part_of_the_optimum_and_never_more_than_all() -> None:
    windows = {start_s: at(start_s)[1] for start_s in (20.0, 60.0)}
    trials = rig_what_if(
        windows,
        scenario=SCENARIO,
        plant=RIG,
        inference=Follows(),
        calibration=calibration(),
        goals=[GOAL],
        search=Search(rounds=4),
        num_futures=2,
    )
    assert [trial.start_s for trial in trials] == [20.0, 60.0]
    for trial in trials:
        assert trial.best_cost <= trial.no_change_cost
        assert trial.best_cost <= trial.chosen_cost + 0.05, "the grid is fine enough"
    assert 0.2 < share_of_optimum(trials) <= 1.02


def test_moments_are_the_ticks_before_them() -> None:
    found = moments(SCENARIO, RIG, first_s=20, every_s=50)
    assert list(found.values()) == [20.0, 70.0]
    for tick, start_s in found.items():
        end_ns = (tick + 1) * RIG.tick_ns
        assert end_ns == SCENARIO.t_start_ns + round(start_s * 1e9)


def test_the_whole_protocol_runs_on_the_rigs_telemetry() -> None:
    watched = RIG.model_copy(update={"streams": RIG.streams[:1]})
    recipe = recipe_named("quick", steps=4)
    told = learn_rig(RIG, recipe, watched=watched, minutes=3.0)
    goals = rig_goals(watched)[:1]
    trials = advise_rig(
        told, RIG, seed=0, minutes=2.0, goals=goals, search=Search(rounds=2, population=16)
    )
    assert [trial.start_s for trial in trials] == [60.0]
    assert trials[0].best_cost <= trials[0].no_change_cost
    assert np.isfinite(trials[0].chosen_cost)
