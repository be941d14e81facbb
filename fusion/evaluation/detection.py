"""What scores and the alarms they raise are worth on runs whose faults are known.

Every method is counted here and by the same rules, from its surprise of each tick: 1 is its own
threshold, NaN is a tick that it says nothing about.

Shapes: N ticks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fusion.alignment import Observation, tick_end_ns
from fusion.evaluation.baselines import alarms_of
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import Score
from fusion.simulation import FaultInterval, Scenario

Floats = NDArray[np.float64]
RECOVERY_S = 60.0
"""After the end of a fault the plant is neither well nor faulty: nothing is counted."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run of the simulated rig, as ticks, with what was injected."""

    scenario: Scenario
    observations: Sequence[Observation]

    def ends_s(self, plant: Plant) -> Floats:
        """Return the end of each tick in seconds from the start of the run, [N]."""
        ends_ns = np.array([tick_end_ns(each.tick, plant) for each in self.observations], np.int64)
        return (ends_ns - self.scenario.t_start_ns) / NANOSECONDS


@dataclass(frozen=True, slots=True)
class Detection:
    """What one method noticed, how soon, and how often for nothing."""

    delay_s: Mapping[str, float]
    """Seconds from the onset to the alarm, of each fault that was noticed."""
    num_faults: int
    num_false: int
    healthy_s: float
    auprc: float
    """Area under precision and recall over ticks; NaN where no run has a fault."""

    @property
    def recall(self) -> float:
        """The share of the faults in which an alarm began."""
        return len(self.delay_s) / self.num_faults if self.num_faults else math.nan

    @property
    def median_delay_s(self) -> float:
        """Of the faults that were noticed; NaN without any."""
        return statistics.median(self.delay_s.values()) if self.delay_s else math.nan

    @property
    def false_alarms_per_day(self) -> float:
        """Alarms that began while all was well, per healthy day."""
        return self.num_false * DAY_S / self.healthy_s if self.healthy_s else math.nan


def detect(runs: Sequence[KnownRun], surprises: Sequence[Floats], plant: Plant) -> Detection:
    """Return what the alarm engine makes of a method's surprise of each run, and its AUPRC.

    A fault is noticed by an alarm that begins in it: one that already stood does not count.
    """
    delay_s: dict[str, float] = {}
    num_faults, num_false, healthy_s = 0, 0, 0.0
    for run, surprise_N in zip(runs, surprises, strict=True):
        faults, ends_s_N = run.scenario.faults, run.ends_s(plant)
        num_faults += len(faults)
        healthy_s += plant.tick_s * float((~(_in(faults, ends_s_N, after_s=RECOVERY_S))).sum())
        for at_s in raised_s(run, surprise_N, plant):
            fault = next((f for f in faults if f.onset_s < at_s <= f.end_s), None)
            if fault is not None:
                delay_s.setdefault(fault.name, at_s - fault.onset_s)
            elif not _in(faults, np.array([at_s]), after_s=RECOVERY_S).any():
                num_false += 1
    return Detection(delay_s, num_faults, num_false, healthy_s, auprc(runs, surprises, plant))


def auprc(runs: Sequence[KnownRun], surprises: Sequence[Floats], plant: Plant) -> float:
    """Return the average precision over the ticks of the runs that have faults.

    A tick that a method says nothing about is its least suspicious one: all methods are counted
    on the same ticks.
    """
    is_fault: list[NDArray[np.bool_]] = []
    values: list[Floats] = []
    for run, surprise_N in zip(runs, surprises, strict=True):
        faults, ends_s_N = run.scenario.faults, run.ends_s(plant)
        if not faults:
            continue
        is_fault_N = _in(faults, ends_s_N)
        is_counted_N = is_fault_N | ~_in(faults, ends_s_N, after_s=RECOVERY_S)
        is_fault.append(is_fault_N[is_counted_N])
        values.append(np.nan_to_num(surprise_N[is_counted_N]))
    if not is_fault:
        return math.nan
    return float(average_precision_score(np.concatenate(is_fault), np.concatenate(values)))


def raised_s(run: KnownRun, surprise_N: Floats, plant: Plant) -> list[float]:
    """Return when alarms began, in seconds from the start of the run, delays included."""
    return [
        (t_ns - run.scenario.t_start_ns) / NANOSECONDS
        for t_ns in raised_ns(run.observations, surprise_N, plant)
    ]


def raised_ns(observations: Sequence[Observation], surprise_N: Floats, plant: Plant) -> list[int]:
    """Return when alarms began, in nanoseconds UTC, delays included."""
    scores = (
        _score(each.tick, surprise, plant)
        for each, surprise in zip(observations, surprise_N.tolist(), strict=True)
        if not math.isnan(surprise)
    )
    return [event.t_ns for event in alarms_of(scores, plant) if event.transition == "raised"]


def _in(
    faults: Sequence[FaultInterval], ends_s_N: Floats, *, after_s: float = 0.0
) -> NDArray[np.bool_]:
    """Return whether each tick lies in a fault, or up to ``after_s`` after its end."""
    inside_N = np.zeros(len(ends_s_N), bool)
    for fault in faults:
        inside_N |= (ends_s_N > fault.onset_s) & (ends_s_N <= fault.end_s + after_s)
    return inside_N


def _score(tick: int, surprise: float, plant: Plant) -> Score:
    """Return a score that says nothing but its surprise, of which each stream has as much."""
    names = [stream.name for stream in plant.streams]
    return Score(
        plant=str(plant.address),
        tick=tick,
        t_end_ns=tick_end_ns(tick, plant),
        model_version="in-memory",
        mode=None,
        surprise=surprise,
        members={},
        shares=dict.fromkeys(names, 1 / len(names)),
        present=dict.fromkeys(names, True),
        signals=(),
        forecasts=(),
    )
