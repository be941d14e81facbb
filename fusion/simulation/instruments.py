"""The rig's instruments: noise, quantisation, lag; 10 rows a second.

Shapes: K steps of a block (20 a second), R rows (10 a second), C tags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.plant import NANOSECONDS
from fusion.schema import Quality, TelemetryBatch
from fusion.simulation.dynamics import BLOCK_S, COLUMNS, STEP_S
from fusion.simulation.scenario import Scenario

ROWS_PER_S = 10
BAR_PER_M = 0.0981


@dataclass(frozen=True, slots=True)
class Instrument:
    """Standard deviation of the noise, and the step in which the instrument reports."""

    noise: float
    step: float


INSTRUMENTS: dict[str, Instrument] = {
    "tank_level": Instrument(0.002, 0.001),
    "tank_temperature": Instrument(0.03, 0.01),
    "inlet_flow": Instrument(0.03, 0.01),
    "outlet_flow": Instrument(0.03, 0.01),
    "pump_speed": Instrument(1.5, 1.0),
    "motor_current": Instrument(0.015, 0.01),
    "motor_temperature": Instrument(0.1, 0.1),
    "discharge_pressure": Instrument(0.003, 0.001),
    "suction_pressure": Instrument(0.002, 0.001),
    "valve_position": Instrument(0.2, 0.1),
    "heater_power": Instrument(0.02, 0.01),
    "vibration_rms": Instrument(0.05, 0.01),
    "ambient_temperature": Instrument(0.05, 0.1),
    "supply_voltage": Instrument(0.6, 0.1),
    "level_setpoint": Instrument(0.0, 0.01),
    "temperature_setpoint": Instrument(0.0, 0.1),
}


def true_values(
    steps_KC: NDArray[np.float64], scenario: Scenario
) -> dict[str, NDArray[np.float64]]:
    """Return what each instrument would read without noise, in its unit, per step."""
    column = {name: steps_KC[:, index] for index, name in enumerate(COLUMNS)}
    ratio = column["speed"] / scenario.physics.nominal_speed_rpm
    head_m = scenario.physics.static_head_m + column["level"]
    friction_m = scenario.physics.pipe_resistance * column["flow_in"] ** 2
    time_s = np.arange(len(steps_KC)) * STEP_S
    worn = np.clip(column["bearing_wear"] - 0.5, 0, None)
    skewed = np.clip(column["misalignment"] - 0.3, 0, None)
    bubbling = column["cavitation"]
    return {
        "tank_level": column["level_reading"],
        "tank_temperature": column["temperature"] + 4 * column["temperature_drift"],
        "inlet_flow": column["flow_in"] * 60_000,
        "outlet_flow": column["flow_out"] * 60_000,
        "pump_speed": column["speed"],
        "motor_current": column["current"],
        "motor_temperature": column["motor_temperature"],
        "discharge_pressure": BAR_PER_M * (head_m + friction_m),
        "suction_pressure": 1.013
        - 1.2e6 * column["flow_in"] ** 2
        - 0.25 * np.clip(bubbling - 0.3, 0, None),
        "valve_position": 100 * column["valve_command"],
        "heater_power": column["heater_kw"],
        "vibration_rms": 1.1 * ratio**2 + 1.2 * worn + 1.6 * skewed + 0.5 * bubbling**2,
        "ambient_temperature": np.full(len(steps_KC), scenario.physics.ambient_c),
        "supply_voltage": 400 + 2 * np.sin(2 * np.pi * time_s / 300),
        "level_setpoint": column["level_setpoint"],
        "temperature_setpoint": column["temperature_setpoint"],
    }


def read_instruments(
    steps_KC: NDArray[np.float64], scenario: Scenario, *, block: int, stream: str
) -> list[TelemetryBatch]:
    """Return the readings of one block as batches of one second."""
    every = round(1 / (ROWS_PER_S * STEP_S))
    truth = true_values(steps_KC, scenario)
    rng = np.random.default_rng([scenario.seed, 2, block])
    num_rows = round(BLOCK_S * ROWS_PER_S)
    readings_RC = np.empty((num_rows, len(INSTRUMENTS)))
    for index, (tag, instrument) in enumerate(INSTRUMENTS.items()):
        noisy_R = truth[tag][every - 1 :: every] + instrument.noise * rng.normal(size=num_rows)
        readings_RC[:, index] = np.round(noisy_R / instrument.step) * instrument.step
    start_ns = scenario.t_start_ns + block * round(BLOCK_S * NANOSECONDS)
    t_R_ns = start_ns + (np.arange(num_rows) * (NANOSECONDS // ROWS_PER_S))
    batches: list[TelemetryBatch] = []
    for begin in range(0, num_rows, ROWS_PER_S):
        rows = slice(begin, begin + ROWS_PER_S)
        shape = readings_RC[rows].shape
        batches.append(
            TelemetryBatch(
                stream=stream,
                tags=tuple(INSTRUMENTS),
                t_source_R_ns=t_R_ns[rows],
                t_server_R_ns=t_R_ns[rows] + 2_000_000,
                t_receive_R_ns=t_R_ns[rows] + 9_000_000,
                values_RC=readings_RC[rows],
                quality_RC=np.full(shape, Quality.GOOD, np.uint8),
                status_RC=np.zeros(shape, np.uint32),
            )
        )
    return batches
