"""A fork differs from its rig by the plan only, and nobody notices that it was taken."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.simulation import Scenario, SetpointPlan
from fusion.simulation.dynamics import COLUMNS, STEP_S, Rig

LEVEL, TEMPERATURE = COLUMNS.index("level_setpoint"), COLUMNS.index("temperature_setpoint")


def rig(seed: int = 3, num_blocks: int = 7) -> Rig:
    running = Rig(Scenario(600.0, seed))
    for _ in range(num_blocks):
        running.block()
    return running


def run(forked: Rig, num_blocks: int = 6) -> np.ndarray:
    return np.concatenate([forked.block() for _ in range(num_blocks)])


def test_a_fork_without_a_plan_goes_on_as_its_rig() -> None:
    running = rig()
    np.testing.assert_array_equal(run(running.fork()), run(running))


def test_a_rig_does_not_notice_its_forks() -> None:
    disturbed, alone = rig(), rig()
    run(disturbed.fork(SetpointPlan((0.0,), (0.5,), (28.0,)), future=1))
    np.testing.assert_array_equal(run(disturbed), run(alone))


def test_the_set_points_are_the_plans_and_nothing_else_is_random() -> None:
    running = rig()
    start_s = running.time_s
    assert start_s == 70.0
    plan = SetpointPlan((start_s, start_s + 10), (0.5, 0.7), (30.0, 30.0))
    planned, held = (
        run(running.fork(plan)),
        run(running.fork(SetpointPlan((start_s,), (0.5,), (30.0,)))),
    )
    assert planned[0, LEVEL] == pytest.approx(0.5)
    assert planned[round(5 / STEP_S), LEVEL] == pytest.approx(0.6)
    assert (planned[round(10 / STEP_S) :, LEVEL] == 0.7).all()
    assert (planned[:, TEMPERATURE] == 30.0).all()
    command = COLUMNS.index("valve_command")
    np.testing.assert_array_equal(planned[:, command], held[:, command])
    level = COLUMNS.index("level")
    assert planned[-1, level] > held[-1, level] + 0.05


def test_another_future_draws_the_weather_anew_and_is_repeatable() -> None:
    running = rig()
    first, again, other = (run(running.fork(future=future)) for future in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, run(running.fork()))


@pytest.mark.parametrize(
    ("at_s", "level_m"), [((), ()), ((1.0, 0.0), (0.5, 0.5)), ((0.0,), (0.5, 0.6))]
)
def test_a_plan_that_makes_no_sense_is_refused(at_s: tuple, level_m: tuple) -> None:
    with pytest.raises(InputError, match="both set-points at ascending times"):
        SetpointPlan(at_s, level_m, level_m)
