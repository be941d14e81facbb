"""What was injected into a run, and which limits it pushed the plant over: for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant, Tag
from fusion.simulation.dynamics import BLOCK_S, STEP_S, Rig
from fusion.simulation.instruments import INSTRUMENTS, true_values
from fusion.simulation.scenario import FAULTS, Scenario


@dataclass(frozen=True, slots=True)
class LimitPassing:
    """A tag's reading, free of noise, that a fault pushed over one of the tag's limits."""

    fault: str
    tag: str
    side: Literal["low", "high"]
    limit: float
    after_s: float
    """Seconds from the fault's onset to the passing."""


def truth(scenario: Scenario, plant: Plant | None = None) -> dict[str, Any]:
    """Return what was injected, for JSON; times are nanoseconds UTC.

    With ``plant`` it also says, under ``limits_passed``, when each fault led over a limit.

    Example:
        >>> from fusion.simulation.scenario import FaultInterval, Scenario
        >>> leak = FaultInterval("leak", onset_s=10, end_s=60)
        >>> truth(Scenario(70, seed=1, faults=(leak,)))["faults"][0]["first_stream"]
        'camera'
    """

    def at_ns(time_s: float) -> int:
        return scenario.t_start_ns + round(time_s * NANOSECONDS)

    told: dict[str, Any] = {
        "is_simulated": True,
        "seed": scenario.seed,
        "t_start_ns": scenario.t_start_ns,
        "t_end_ns": at_ns(scenario.duration_s),
        "faults": [
            {
                "name": fault.name,
                "title": FAULTS[fault.name].title,
                "onset_ns": at_ns(fault.onset_s),
                "end_ns": at_ns(fault.end_s),
                "first_stream": FAULTS[fault.name].first_stream,
                "note": FAULTS[fault.name].note,
            }
            for fault in scenario.faults
        ],
    }
    if plant is not None:
        told["limits_passed"] = [asdict(passing) for passing in limits_passed(scenario, plant)]
    return told


def limits_passed(scenario: Scenario, plant: Plant) -> tuple[LimitPassing, ...]:
    """Return each limit that a fault led over, with the seconds it took from its onset.

    Compared with the same run without faults: what a set-point alone would have done does not
    count, nor what was already over its limit at the onset.

    Raises:
        InputError: ``plant`` sets limits on tags that the rig does not measure.
    """
    tags = [tag for tag in plant.measured if tag.limits is not None]
    foreign = sorted({tag.name for tag in tags} - set(INSTRUMENTS))
    if foreign:
        raise InputError(
            f"limits must be on what the rig measures, got {foreign}; use plants/rig.yaml"
        )
    sick, well = _readings(scenario, tags), _readings(replace(scenario, faults=()), tags)
    found: list[LimitPassing] = []
    for fault in scenario.faults:
        inside = slice(round(fault.onset_s / STEP_S), round(fault.end_s / STEP_S))
        for tag in tags:
            for side, limit in _sides(tag):
                is_over_K = _is_over(sick[tag.name][inside], side, limit)
                is_caused_K = is_over_K & ~_is_over(well[tag.name][inside], side, limit)
                if is_caused_K.any() and not is_over_K[0]:
                    after_s = float(np.argmax(is_caused_K) + 1) * STEP_S
                    found.append(LimitPassing(fault.name, tag.name, side, limit, after_s))
    return tuple(found)


def _sides(tag: Tag) -> list[tuple[Literal["low", "high"], float]]:
    assert tag.limits is not None
    sides: list[tuple[Literal["low", "high"], float]] = []
    if tag.limits.low is not None:
        sides.append(("low", tag.limits.low))
    if tag.limits.high is not None:
        sides.append(("high", tag.limits.high))
    return sides


def _is_over(values_K: NDArray[np.float64], side: str, limit: float) -> NDArray[np.bool_]:
    return values_K > limit if side == "high" else values_K < limit


def _readings(scenario: Scenario, tags: list[Tag]) -> dict[str, NDArray[np.float64]]:
    """Return the readings of the whole run without noise, one for each step."""
    rig = Rig(scenario)
    blocks = [
        true_values(rig.block(), scenario) for _ in range(math.ceil(scenario.duration_s / BLOCK_S))
    ]
    return {tag.name: np.concatenate([block[tag.name] for block in blocks]) for tag in tags}
