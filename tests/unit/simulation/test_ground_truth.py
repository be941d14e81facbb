"""The truth about a run says what was injected, where it shows first, and what it led to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusion.errors import InputError
from fusion.plant import Limits, Plant, parse_plant
from fusion.simulation import (
    FAULTS,
    FaultInterval,
    Scenario,
    fault_campaign,
    limits_passed,
    normal_scenario,
    truth,
)

RIG: Plant = parse_plant(
    (Path(__file__).parents[3] / "plants" / "rig.yaml").read_text(encoding="utf-8"),
    origin="rig.yaml",
)


def with_limit(tag_name: str, limits: Limits) -> Plant:
    process = RIG.telemetry_streams[0]
    tags = tuple(
        tag.model_copy(update={"limits": limits if tag.name == tag_name else None})
        for tag in process.tags
    )
    streams = (process.model_copy(update={"tags": tags}), *RIG.streams[1:])
    return RIG.model_copy(update={"streams": streams})


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_blocked_cooling_takes_the_motor_over_its_limit_within_its_time(seed: int) -> None:
    scenario = fault_campaign(seed=seed)
    fault = next(fault for fault in scenario.faults if fault.name == "motor_overheating")
    passing = {each.fault: each for each in limits_passed(scenario, RIG)}["motor_overheating"]
    assert (passing.tag, passing.side, passing.limit) == ("motor_temperature", "high", 62)
    assert 20 < passing.after_s < fault.end_s - fault.onset_s


def test_a_healthy_run_passes_no_limit_by_a_fault() -> None:
    assert limits_passed(normal_scenario(duration_s=300, seed=1), RIG) == ()


def test_what_the_plant_does_by_itself_is_not_put_down_to_a_fault() -> None:
    always_passed = with_limit("pump_speed", Limits(high=1.0))
    moved = Scenario(300, seed=1, faults=(FaultInterval("camera_moved", 20, 280),))
    assert limits_passed(moved, always_passed) == ()


def test_limits_on_what_the_rig_does_not_measure_are_refused() -> None:
    process = RIG.telemetry_streams[0]
    foreign = process.tags[0].model_copy(update={"name": "torque"})
    plant = RIG.model_copy(update={"streams": (process.model_copy(update={"tags": (foreign,)}),)})
    with pytest.raises(InputError, match="torque"):
        limits_passed(normal_scenario(duration_s=10, seed=1), plant)


def test_the_truth_can_be_written_as_json() -> None:
    told = truth(fault_campaign(seed=1), RIG)
    assert json.loads(json.dumps(told)) == told
    assert {fault["name"] for fault in told["faults"]} == set(FAULTS)
    assert {each["fault"] for each in told["limits_passed"]} <= set(FAULTS)
    assert "limits_passed" not in truth(fault_campaign(seed=1))


@pytest.mark.parametrize(
    ("name", "onset_s", "end_s", "severity"),
    [
        ("rust", 0, 1, 1),
        ("leak", 5, 5, 1),
        ("leak", -1, 5, 1),
        ("leak", 0, 5, 0),
        ("leak", 0, 5, 2),
    ],
)
def test_an_impossible_fault_is_refused(
    name: str, onset_s: float, end_s: float, severity: float
) -> None:
    with pytest.raises(InputError, match="a fault must"):
        FaultInterval(name, onset_s, end_s, severity)


@pytest.mark.parametrize(("duration_s", "distractors"), [(0, 1), (-5, 1), (10, -0.1)])
def test_an_impossible_scenario_is_refused(duration_s: float, distractors: float) -> None:
    with pytest.raises(InputError, match="a scenario must"):
        Scenario(duration_s, seed=1, distractors=distractors)
