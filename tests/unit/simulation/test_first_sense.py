"""A fault shows first in the stream that its truth names: by effect size, not by one bit.

Each run is compared with its healthy twin of the same seed, so that only the fault differs.
Shapes: N payloads, F features of one payload.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from fusion.plant import Plant, parse_plant
from fusion.schema import AudioChunk, Payload, TelemetryBatch
from fusion.simulation import FAULTS, FaultInterval, Scenario, simulate
from fusion.simulation.dynamics import COLUMNS, STEP_S, WATER_KJ_PER_M3_K, Rig
from fusion.simulation.microphone import Microphone

RIG: Plant = parse_plant(
    (Path(__file__).parents[3] / "plants" / "rig.yaml").read_text(encoding="utf-8"),
    origin="rig.yaml",
)
RUN_S = 20.0
SEEDS = (11, 12)


def features(payload: Payload) -> NDArray[np.floating]:
    """Mean of each measured tag, log power in 32 bands, or mean of 8 x 8 blocks of pixels."""
    if isinstance(payload, TelemetryBatch):
        return payload.values_RC[:, : len(RIG.measured)].mean(0)
    if isinstance(payload, AudioChunk):
        _, power = signal.welch(payload.samples_N / 32_767, payload.sample_rate_hz, nperseg=1024)
        return np.log(power[1:].reshape(32, -1).mean(1))
    return payload.pixels_HW3.reshape(15, 8, 20, 8, 3).mean((1, 3, 4)).ravel()


@functools.cache
def run(seed: int, fault: str | None = None) -> dict[str, NDArray[np.floating]]:
    faults = () if fault is None else (FaultInterval(fault, 0.0, 1e6),)
    by_stream: dict[str, list[NDArray[np.floating]]] = {s.name: [] for s in RIG.streams}
    for payload in simulate(Scenario(RUN_S, seed, faults=faults), RIG):
        by_stream[payload.stream].append(features(payload))
    return {name: np.array(rows_NF) for name, rows_NF in by_stream.items()}


def effects(seed: int, fault: str) -> dict[str, float]:
    """Return per stream the largest mean shift of a feature in the second half of the run.

    In standard deviations of what the healthy run changes from one payload to the next.
    """
    sick, well = run(seed, fault), run(seed)
    found: dict[str, float] = {}
    for name, well_NF in well.items():
        spread_F = np.diff(well_NF, axis=0).std(0) / np.sqrt(2) + 1e-6
        shift_NF = np.abs(sick[name] - well_NF)[len(well_NF) // 2 :] / spread_F
        found[name] = float(shift_NF.mean(0).max())
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_shows_most_in_its_first_stream_while_it_is_young(fault: str, seed: int) -> None:
    by_stream = effects(seed, fault)
    first = by_stream.pop(FAULTS[fault].first_stream)
    # Twins share their noise: any shift is the fault's. The slowest ramps take 110 s.
    assert first > 1
    assert first > 2 * max(by_stream.values())


def test_the_stuck_sensor_contradicts_the_picture() -> None:
    """The reading stands still while the sight glass, drawn from the true level, goes on."""
    rig = Rig(Scenario(120, 11, faults=(FaultInterval("stuck_level_sensor", 0.0, 1e6),)))
    steps_KC = np.concatenate([rig.block() for _ in range(12)])
    after_KC = steps_KC[round(1 / STEP_S) :]
    assert np.ptp(after_KC[:, COLUMNS.index("level_reading")]) == 0
    assert np.ptp(after_KC[:, COLUMNS.index("level")]) > 0.05


@pytest.mark.parametrize("fault", [None, "heater_fouling", "leak"])
def test_heat_in_the_tank_is_what_came_in_less_what_went_out(fault: str | None) -> None:
    """An enthalpy balance over the whole run: c A d(hT) = P + c Q_in T_in - c Q_out T - losses."""
    faults = () if fault is None else (FaultInterval(fault, 0.0, 1e6),)
    scenario = Scenario(200, 5, faults=faults)
    physics, rig = scenario.physics, Rig(scenario)
    rows_KC = np.concatenate([rig.block() for _ in range(20)])
    run_K = {name: rows_KC[:, index] for index, name in enumerate(COLUMNS)}
    useful_kw = run_K["heater_kw"] * (1 - 0.5 * run_K["heater_fouling"])
    leak = 2.0e-5 * np.clip(run_K["leak"] - 0.4, 0, None)
    came_kw = useful_kw + WATER_KJ_PER_M3_K * run_K["flow_in"] * physics.inflow_temperature_c
    went_kw = WATER_KJ_PER_M3_K * (run_K["flow_out"] + leak) * run_K["temperature"]
    lost_kw = physics.heat_loss_kw_per_k * (run_K["temperature"] - physics.ambient_c)
    stored_kj = WATER_KJ_PER_M3_K * physics.tank_area_m2 * run_K["level"] * run_K["temperature"]
    gained_kj = ((came_kw - went_kw - lost_kw) * STEP_S)[1:].sum()
    turned_over_kj = (came_kw * STEP_S)[1:].sum()
    assert abs(stored_kj[-1] - stored_kj[0] - gained_kj) < 0.001 * turned_over_kj


def test_sound_runs_on_where_one_block_ends_and_the_next_begins() -> None:
    scenario = Scenario(40, 3, distractors=0.0)
    rig, microphone = Rig(scenario), Microphone(scenario)
    blocks = [microphone.listen(rig.block(), block=b, stream="microphone") for b in range(4)]
    jumps = [
        abs(int(after[0].samples_N[0]) - int(before[-1].samples_N[-1]))
        for before, after in pairwise(blocks)
    ]
    inside = np.abs(np.diff(blocks[1][5].samples_N.astype(np.int64)))
    assert max(jumps) <= inside.max()
    assert all(chunk.num_clipped == 0 for block in blocks for chunk in block)
