"""How good advice is, on the simulated rig: each plan is played from the moment it was given for.

The simulator is the truth: forks of the running rig differ by their set-points only. A plan's true
cost is that of the same wishes on readings without noise, averaged over every tick up to the last
horizon and over several futures, so that the optimum knows the plant but not the coming weather.

Shapes: N plans, F futures, L ticks ahead, K moves, U set-points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.model.outputs import WindowOutputs
from fusion.planning import Candidate, Goal, PlanReader, Search, what_if
from fusion.planning.what_if import tag_scale
from fusion.plant import NANOSECONDS, Plant, Tag
from fusion.ports import Inference
from fusion.scoring import Calibration
from fusion.simulation import Scenario, SetpointPlan
from fusion.simulation.dynamics import BLOCK_S, STEP_S, Rig
from fusion.simulation.instruments import true_values

Floats = NDArray[np.float64]
NUM_FUTURES = 4
GRID, FINE_GRID, NUM_REFINEMENTS = 11, 5, 2


@dataclass(frozen=True, slots=True)
class Trial:
    """One piece of advice, and what it was worth on the simulator."""

    start_s: float
    goal: Goal
    chosen: Candidate
    no_change_cost: float
    chosen_cost: float
    best_cost: float
    best_targets_KU: Floats
    limits_broken: tuple[str, ...]
    """Tags that the chosen plan leads over a limit where changing nothing would not."""


def share_of_optimum(trials: Sequence[Trial]) -> float:
    """Return how much of what the best plans would save the chosen ones do; 1 is all of it."""
    possible = sum(trial.no_change_cost - trial.best_cost for trial in trials)
    reached = sum(trial.no_change_cost - trial.chosen_cost for trial in trials)
    return reached / possible if possible > 0 else math.nan


def rig_what_if(
    windows: Mapping[float, WindowOutputs],
    *,
    scenario: Scenario,
    plant: Plant,
    inference: Inference,
    calibration: Calibration,
    goals: Sequence[Goal],
    search: Search,
    num_futures: int = NUM_FUTURES,
) -> list[Trial]:
    """Return a trial of every goal at every moment of ``windows``: seconds of ``scenario``'s run.

    A moment is a multiple of 10 s, and its window ends there.
    """
    trials: list[Trial] = []
    rig = Rig(scenario)
    for start_s in sorted(windows):
        while rig.time_s < start_s:
            rig.block()
        assert rig.time_s == start_s, "moments are multiples of the simulator's blocks"
        reader = PlanReader.at(
            windows[start_s], inference=inference, plant=plant, calibration=calibration
        )
        truth = Truth(rig, scenario, reader, num_futures)
        trials += [_trial(truth, goal, search, start_s) for goal in goals]
    return trials


def moments(
    scenario: Scenario, plant: Plant, *, first_s: float, every_s: float
) -> dict[int, float]:
    """Return the last tick before each moment of a run at which advice can be asked for."""
    found = np.arange(first_s, scenario.duration_s, every_s)
    start_ns = scenario.t_start_ns
    return {
        (start_ns + round(at_s * NANOSECONDS)) // plant.tick_ns - 1: float(at_s) for at_s in found
    }


class Truth:
    """What plans really lead to from one moment of the simulated rig; each is played once."""

    def __init__(
        self, rig: Rig, scenario: Scenario, reader: PlanReader, num_futures: int = NUM_FUTURES
    ) -> None:
        self._rig, self._scenario, self.reader = rig, scenario, reader
        self._futures = range(1, num_futures + 1)
        self._played: dict[bytes, dict[str, Floats]] = {}

    def play(self, targets_KU: Floats) -> dict[str, Floats]:
        """Return the tags that the plan leads to, per tick, in their units: [F, L] each."""
        key = targets_KU.tobytes()
        if key not in self._played:
            runs = [self._run(self._plan(targets_KU), future) for future in self._futures]
            self._played[key] = {tag: np.stack([run[tag] for run in runs]) for tag in runs[0]}
        return self._played[key]

    def cost(self, goal: Goal, targets_KU: Floats) -> float:
        """Return the true cost of the wishes; infinite for a plan that breaks a limit."""
        if self.limits_broken(targets_KU):
            return math.inf
        return self.wishes(goal, targets_KU)

    def wishes(self, goal: Goal, targets_KU: Floats) -> float:
        """Return the true cost of the wishes, whatever limits are broken."""
        played, total = self.play(targets_KU), 0.0
        names = [tag.name for tag in self.reader.plant.measured]
        for term in goal.terms:
            centre, std = tag_scale(self.reader, names.index(term.tag))
            values_FL = played[term.tag]
            cost_FL = term.cost(values_FL, np.zeros_like(values_FL), centre=centre, std=std)
            total += float(cost_FL.mean())
        return total

    def limits_broken(self, targets_KU: Floats) -> tuple[str, ...]:
        """Return the tags over a limit in a future in which changing nothing would not do it."""
        played, held = self.play(targets_KU), self.play(self.reader.space.hold())
        return tuple(
            tag.name
            for tag in self.reader.plant.measured
            if tag.limits is not None
            and (_is_over(played[tag.name], tag) & ~_is_over(held[tag.name], tag)).any()
        )

    def best(self, goal: Goal) -> tuple[Floats, float]:
        """Return the targets [K, U] of the cheapest single move and its cost: a grid, refined."""
        space = self.reader.space
        centre_U, width_U = (space.low_U + space.high_U) / 2, space.high_U - space.low_U
        best_KU, least = space.hold(), self.cost(goal, space.hold())
        for level in range(1 + NUM_REFINEMENTS):
            steps = np.linspace(-0.5, 0.5, FINE_GRID if level else GRID)
            grid_NU = np.stack(np.meshgrid(*[steps] * len(space.names)), -1).reshape(
                -1, len(width_U)
            )
            for at_U in np.clip(centre_U + grid_NU * width_U, space.low_U, space.high_U):
                targets_KU = at_U[None]
                cost = self.cost(goal, targets_KU)
                if cost < least:
                    best_KU, least = targets_KU, cost
            centre_U, width_U = best_KU[0], width_U / (FINE_GRID if level else GRID - 1) * 2
        return best_KU, least

    def _plan(self, targets_KU: Floats) -> SetpointPlan:
        """Return the plan with its corners only."""
        reader, start_s = self.reader, self._rig.time_s
        times_L = np.arange(reader.calibration.horizons_ticks[-1] + 1) * reader.calibration.tick_s
        path_LU = reader.space.paths(targets_KU[None], times_L)[0]
        is_corner_L = np.ones(len(times_L), bool)
        is_corner_L[1:-1] = (np.abs(np.diff(path_LU, n=2, axis=0)) > 1e-12).any(axis=1)
        of = {name: path_LU[is_corner_L, u] for u, name in enumerate(reader.space.names)}
        return SetpointPlan(
            at_s=tuple((start_s + times_L[is_corner_L]).tolist()),
            level_m=tuple(of["level_setpoint"].tolist()),
            temperature_c=tuple(of["temperature_setpoint"].tolist()),
        )

    def _run(self, plan: SetpointPlan, future: int) -> dict[str, Floats]:
        calibration, plant = self.reader.calibration, self.reader.plant
        num_ticks = calibration.horizons_ticks[-1]
        rig = self._rig.fork(plan, future=future)
        blocks = [rig.block() for _ in range(math.ceil(num_ticks * plant.tick_s / BLOCK_S))]
        values = true_values(np.concatenate(blocks), self._scenario)
        per_tick = round(plant.tick_s / STEP_S)
        return {
            tag.name: values[tag.name][: num_ticks * per_tick].reshape(num_ticks, -1).mean(axis=1)
            for tag in plant.measured
        }


def _trial(truth: Truth, goal: Goal, search: Search, start_s: float) -> Trial:
    chosen = what_if(truth.reader, goal, search=search)[0]
    best_KU, best_cost = truth.best(goal)
    return Trial(
        start_s=start_s,
        goal=goal,
        chosen=chosen,
        no_change_cost=truth.wishes(goal, truth.reader.space.hold()),
        chosen_cost=truth.wishes(goal, chosen.targets_KU),
        best_cost=best_cost,
        best_targets_KU=best_KU,
        limits_broken=truth.limits_broken(chosen.targets_KU),
    )


def _is_over(values_FL: Floats, tag: Tag) -> NDArray[np.bool_]:
    """Return whether each future [F] passes a limit of ``tag``."""
    assert tag.limits is not None
    low = -math.inf if tag.limits.low is None else tag.limits.low
    high = math.inf if tag.limits.high is None else tag.limits.high
    return np.any((values_FL < low) | (values_FL > high), axis=1)
