"""The simulated rig obeys its seed, its water balance, and the notes on its faults."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.plant import Plant, parse_plant
from fusion.schema import AudioChunk, Payload, TelemetryBatch
from fusion.simulation import FAULTS, FaultInterval, Scenario, fault_campaign, simulate, truth
from fusion.simulation.dynamics import COLUMNS, STEP_S, Rig

RIG: Plant = parse_plant(
    (Path(__file__).parents[3] / "plants" / "rig.yaml").read_text(encoding="utf-8"),
    origin="rig.yaml",
)
STREAMS = {"process", "microphone", "camera"}
FAULT_RUN_S = 10.0
"""One block: shorter than any fault needs to reach a second stream."""


def values_of(payload: Payload) -> NDArray[np.generic]:
    if isinstance(payload, TelemetryBatch):
        return payload.values_RC
    return payload.samples_N if isinstance(payload, AudioChunk) else payload.pixels_HW3


def time_of(payload: Payload) -> int:
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[0])
    return payload.t_start_ns if isinstance(payload, AudioChunk) else payload.t_capture_ns


def bytes_of(scenario: Scenario) -> dict[str, bytes]:
    parts: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    for payload in simulate(scenario, RIG):
        parts[payload.stream] += [str(time_of(payload)).encode(), values_of(payload).tobytes()]
    return {name: b"|".join(each) for name, each in parts.items()}


@functools.cache
def of_seed(seed: int, fault: str | None = None, distractors: float = 1.0) -> dict[str, bytes]:
    faults = () if fault is None else (FaultInterval(fault, 0.0, 1e6),)
    return bytes_of(Scenario(FAULT_RUN_S, seed, faults=faults, distractors=distractors))


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {name for name in STREAMS if one[name] != other[name]}


def steps(scenario: Scenario, num_blocks: int) -> dict[str, NDArray[np.float64]]:
    rig = Rig(scenario)
    rows_KC = np.concatenate([rig.block() for _ in range(num_blocks)])
    return {name: rows_KC[:, index] for index, name in enumerate(COLUMNS)}


def test_the_same_seed_gives_the_same_bytes() -> None:
    scenario = Scenario(20.0, seed=3, faults=(FaultInterval("cavitation", 5.0, 15.0),))
    assert bytes_of(scenario) == bytes_of(scenario)


def test_another_seed_gives_other_streams() -> None:
    assert differing(of_seed(1), of_seed(2)) == STREAMS


def test_payloads_come_in_the_order_of_sending_and_cover_the_run() -> None:
    payloads = list(simulate(Scenario(20.0, seed=1), RIG))
    for stream, per_second in {"process": 1, "microphone": 1, "camera": 2}.items():
        times = np.array([time_of(p) for p in payloads if p.stream == stream])
        assert len(times) == 20 * per_second
        assert set(np.diff(times)) == {1_000_000_000 // per_second}


@pytest.mark.parametrize("fault", [None, "leak", "cavitation", "valve_stiction"])
def test_the_tank_gains_what_flows_in_less_what_flows_out_and_leaks(fault: str | None) -> None:
    faults = () if fault is None else (FaultInterval(fault, 0.0, 1e6),)
    scenario = Scenario(100.0, seed=5, faults=faults)
    run = steps(scenario, 10)
    leak = 2.0e-5 * np.clip(run["leak"] - 0.4, 0, None)
    gain = (run["flow_in"] - run["flow_out"] - leak) * STEP_S
    stored = scenario.physics.tank_area_m2 * np.diff(run["level"])
    is_inside = (run["level"][1:] > 0.06) & (run["level"][1:] < 1.19)
    assert is_inside.mean() > 0.5
    np.testing.assert_allclose(stored[is_inside], gain[1:][is_inside], atol=1e-12)


def test_the_pump_makes_up_for_a_leak() -> None:
    leaking = steps(Scenario(100.0, seed=5, faults=(FaultInterval("leak", 0.0, 1e6),)), 10)
    whole = steps(Scenario(100.0, seed=5), 10)
    assert leaking["flow_in"].sum() > whole["flow_in"].sum()


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_in_its_first_stream(fault: str) -> None:
    assert FAULTS[fault].first_stream in differing(of_seed(7), of_seed(7, fault))


@pytest.mark.parametrize(
    "fault", ["bearing_wear", "leak", "temperature_drift", "misalignment", "camera_moved"]
)
def test_an_early_fault_is_in_its_first_stream_only(fault: str) -> None:
    assert differing(of_seed(7), of_seed(7, fault)) == {FAULTS[fault].first_stream}


def test_a_fault_changes_nothing_before_its_onset() -> None:
    later = tuple(FaultInterval(name, FAULT_RUN_S, 1e6) for name in FAULTS)
    assert bytes_of(Scenario(FAULT_RUN_S, 7, faults=later)) == of_seed(7)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_severity_grows_from_nothing_to_its_full_and_ends(name: str) -> None:
    fault = FaultInterval(name, 10.0, 500.0, severity=0.8)
    severities = [fault.severity_at(t) for t in np.linspace(10, 499, 50)]
    assert severities == sorted(severities)
    assert fault.severity_at(9.9) == fault.severity_at(10.0) == fault.severity_at(500.0) == 0.0
    assert severities[-1] == 0.8


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_the_level_follows_its_set_point(seed: int) -> None:
    run = steps(Scenario(600.0, seed=seed), 60)
    setpoint, level = run["level_setpoint"], run["level"]
    assert 5 < np.count_nonzero(np.diff(setpoint)) < 20
    lag = round(40 / STEP_S)
    assert np.corrcoef(setpoint[:-lag], level[lag:])[0, 1] > 0.5


def test_distractors_leave_telemetry_alone() -> None:
    assert differing(of_seed(9, None, 0.0), of_seed(9, None, 4.0)) == {"microphone", "camera"}


def test_a_campaign_has_every_fault_once_and_never_two_at_a_time() -> None:
    scenario = fault_campaign(seed=2)
    assert sorted(fault.name for fault in scenario.faults) == sorted(FAULTS)
    told = truth(scenario)["faults"]
    assert all(a["end_ns"] < b["onset_ns"] for a, b in pairwise(told))
    assert scenario.faults[-1].end_s < scenario.duration_s + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": RIG.streams[:2]},
        {"streams": (RIG.streams[0].model_copy(update={"rate_hz": 5.0}), *RIG.streams[1:])},
        {
            "streams": (
                RIG.streams[0],
                RIG.streams[1].model_copy(update={"sample_rate_hz": 8_000}),
                RIG.streams[2],
            )
        },
        {
            "streams": (
                RIG.streams[0].model_copy(update={"tags": RIG.telemetry_streams[0].tags[:3]}),
                *RIG.streams[1:],
            )
        },
    ],
)
def test_a_plant_that_is_not_the_rig_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"the simulator plays one telemetry stream .* use plants"):
        next(simulate(Scenario(10.0, seed=1), RIG.model_copy(update=changes)))
