"""The rig's differential equations: a pump fills a heated tank that drains through a valve.

Mass: A dh/dt = Q_in - Q_out - Q_leak. Pump and pipe: H0 s^2 = H_static + h + R Q_in^2, with s the
speed over its nominal value (affinity laws). Valve: Q_out = C v sqrt(h) (Torricelli). Heat:
c A h dT/dt = P - c Q_in (T - T_in) - k (T - T_ambient). Winding: tau dT_m/dt = r I^2 - (T_m - T_a).
Level and temperature are held by PI controllers at set-points that operators change.

Integrated with steps of 50 ms, far below every time constant (the fastest is the shaft's 0.6 s).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.simulation.scenario import FAULTS, Scenario

STEP_S = 0.05
BLOCK_S = 10.0
STEPS_PER_BLOCK = round(BLOCK_S / STEP_S)
WATER_KJ_PER_M3_K = 4186.0
WARM_UP_BLOCKS = 30
STICK_AT = 0.35
"""How much of the valve's travel is lost while it sticks."""

COLUMNS = (
    "level",
    "temperature",
    "flow_in",
    "flow_out",
    "speed",
    "current",
    "motor_temperature",
    "valve_command",
    "valve",
    "heater_kw",
    "level_setpoint",
    "temperature_setpoint",
    "level_reading",
    "turns",
    *FAULTS,
)
"""What :meth:`Rig.block` returns per step, in SI units; then the severity of each fault."""


@dataclass(frozen=True, slots=True)
class SetpointPlan:
    """What an operator sets instead of the run's own changes: straight lines, then held."""

    at_s: tuple[float, ...]
    """Ascending; seconds of the run."""
    level_m: tuple[float, ...]
    temperature_c: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.at_s), len(self.level_m), len(self.temperature_c)}
        if len(lengths) != 1 or not self.at_s or list(self.at_s) != sorted(self.at_s):
            raise InputError(
                "a plan must give both set-points at ascending times, got "
                f"{self.at_s}, {self.level_m} and {self.temperature_c}; give one value per time"
            )

    def setpoints(self, time_s: float) -> tuple[float, float]:
        """Return the set-points of level, in m, and temperature, in °C.

        Example:
            >>> SetpointPlan((10.0, 20.0), (0.5, 0.7), (30.0, 30.0)).setpoints(15.0)
            (0.6, 30.0)
        """
        level_m = float(np.interp(time_s, self.at_s, self.level_m))
        return level_m, float(np.interp(time_s, self.at_s, self.temperature_c))


@dataclass(slots=True)
class _State:
    level: float = 0.6
    temperature: float = 30.0
    speed: float = 1400.0
    motor_temperature: float = 55.0
    valve: float = 0.5
    demand: float = 0.5
    level_integral: float = 1400.0
    heat_integral: float = 4.0
    turns: float = 0.0
    level_setpoint: float = 0.6
    temperature_setpoint: float = 30.0
    next_level_change_s: float = -1e9
    next_temperature_change_s: float = -1e9
    stuck_level: float | None = None
    stuck_valve: float | None = None


class Rig:
    """The state of one simulated rig, advanced block by block (10 s each)."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._physics = scenario.physics
        self._plan: SetpointPlan | None = None
        self._future = 0
        self._state = _State(
            motor_temperature=scenario.physics.ambient_c + 30.0, valve=0.5, demand=0.5
        )
        # The plant has been running for a while when the recording starts.
        self._block = -WARM_UP_BLOCKS
        for _ in range(WARM_UP_BLOCKS):
            self.block()

    @property
    def time_s(self) -> float:
        """When the next block begins."""
        return self._block * BLOCK_S

    def fork(self, plan: SetpointPlan | None = None, *, future: int = 0) -> Self:
        """Return a copy that goes on from here by itself; this rig does not notice.

        With ``plan`` the set-points are the plan's. Everything random stays what it would have
        been, so that two forks differ by their plans only; another ``future`` draws it anew.
        """
        other = copy.copy(self)
        other._state, other._plan, other._future = copy.copy(self._state), plan, future  # noqa: SLF001
        return other

    def block(self) -> NDArray[np.float64]:
        """Return the next 10 s, [steps, columns] in the order of ``COLUMNS``."""
        seed = [self._scenario.seed, 1, self._block + WARM_UP_BLOCKS]
        rng = np.random.default_rng(seed if self._future == 0 else [*seed, self._future])
        kicks = rng.normal(size=STEPS_PER_BLOCK).tolist()
        draws = rng.random(8).tolist()
        rows = [
            self._step((self._block * STEPS_PER_BLOCK + index) * STEP_S, kicks[index], draws)
            for index in range(STEPS_PER_BLOCK)
        ]
        self._block += 1
        return np.array(rows)

    def _step(self, time_s: float, kick: float, draws: list[float]) -> tuple[float, ...]:
        state = self._state
        severity = {
            fault.name: fault.severity_at(time_s)
            for fault in self._scenario.faults
            if fault.onset_s <= time_s < fault.end_s
        }
        self._change_setpoints(time_s, draws)
        command = self._move_valve(kick, severity.get("valve_stiction", 0.0))
        reading = self._read_level(severity.get("stuck_level_sensor", 0.0))
        self._turn_pump(reading)
        flow_in, flow_out = self._move_water(severity)
        heater_kw = self._heat_water(flow_in, severity.get("heater_fouling", 0.0))
        current = self._warm_motor(flow_in, severity.get("motor_overheating", 0.0))
        return (
            state.level,
            state.temperature,
            flow_in,
            flow_out,
            state.speed,
            current,
            state.motor_temperature,
            command,
            state.valve,
            heater_kw,
            state.level_setpoint,
            state.temperature_setpoint,
            reading,
            state.turns,
            *(severity.get(name, 0.0) for name in FAULTS),
        )

    def _change_setpoints(self, time_s: float, draws: list[float]) -> None:
        state = self._state
        if self._plan is not None:
            state.level_setpoint, state.temperature_setpoint = self._plan.setpoints(time_s)
            return
        if time_s >= state.next_level_change_s:
            state.level_setpoint = round(0.5 + 0.25 * draws[0], 2)
            state.next_level_change_s = time_s + 40 + 50 * draws[1]
        if time_s >= state.next_temperature_change_s:
            state.temperature_setpoint = round(28 + 5 * draws[2], 1)
            state.next_temperature_change_s = time_s + 50 + 60 * draws[3]

    def _move_valve(self, kick: float, stiction: float) -> float:
        """Return the valve's command; a sticking valve does not follow it."""
        state = self._state
        # The process behind the valve asks for more or less (Ornstein-Uhlenbeck, about 40 s).
        state.demand += STEP_S * (0.5 - state.demand) / 40 + 0.02 * math.sqrt(STEP_S) * kick
        command = min(0.8, max(0.25, state.demand))
        if stiction > 0:
            state.stuck_valve = (
                max(0.1, state.valve - STICK_AT / 2)
                if state.stuck_valve is None
                else state.stuck_valve
            )
            target = state.stuck_valve
        else:
            state.stuck_valve, target = None, command
        state.valve += STEP_S * (target - state.valve) / 1.5
        return command

    def _read_level(self, sticking: float) -> float:
        """Return what the level controller is told; a stuck sensor says the same for ever."""
        state = self._state
        if sticking > 0:
            state.stuck_level = state.level if state.stuck_level is None else state.stuck_level
            return state.stuck_level
        state.stuck_level = None
        return state.level

    def _turn_pump(self, reading: float) -> None:
        """Let the level controller set the speed, and the shaft follow it."""
        state = self._state
        error = state.level_setpoint - reading
        state.level_integral = min(2200.0, max(700.0, state.level_integral + STEP_S * 40 * error))
        wanted_rpm = min(2400.0, max(500.0, state.level_integral + 1200 * error))
        state.speed += STEP_S * (wanted_rpm - state.speed) / 0.6
        state.turns += STEP_S * state.speed / 60

    def _move_water(self, severity: Mapping[str, float]) -> tuple[float, float]:
        """Return the flows in and out, in m^3/s, and let the level follow them."""
        state, physics = self._state, self._physics
        ratio = state.speed / physics.nominal_speed_rpm
        lift = physics.pump_head_m * ratio * ratio - physics.static_head_m - state.level
        starved = 1 - 0.45 * max(0.0, severity.get("cavitation", 0.0) - 0.35)
        flow_in = starved * math.sqrt(max(0.0, lift) / physics.pipe_resistance)
        flow_out = physics.valve_coefficient * state.valve * math.sqrt(max(0.0, state.level))
        flow_leak = 2.0e-5 * max(0.0, severity.get("leak", 0.0) - 0.4)
        state.level += STEP_S * (flow_in - flow_out - flow_leak) / physics.tank_area_m2
        state.level = min(physics.tank_height_m, max(0.05, state.level))
        return flow_in, flow_out

    def _heat_water(self, flow_in: float, fouling: float) -> float:
        """Return the heater's power in kW, and let the water's temperature follow it."""
        state, physics = self._state, self._physics
        cold = state.temperature_setpoint - state.temperature
        state.heat_integral = min(
            physics.heater_max_kw, max(0.0, state.heat_integral + STEP_S * 0.06 * cold)
        )
        heater_kw = min(physics.heater_max_kw, max(0.0, state.heat_integral + 1.6 * cold))
        useful_kw = heater_kw * (1 - 0.5 * fouling)
        carried_kw = (
            WATER_KJ_PER_M3_K * flow_in * (state.temperature - physics.inflow_temperature_c)
        )
        lost_kw = physics.heat_loss_kw_per_k * (state.temperature - physics.ambient_c)
        heat_kj_per_k = WATER_KJ_PER_M3_K * physics.tank_area_m2 * state.level
        state.temperature += STEP_S * (useful_kw - carried_kw - lost_kw) / heat_kj_per_k
        return heater_kw

    def _warm_motor(self, flow_in: float, blocked: float) -> float:
        """Return the motor's current in A, and let its winding's temperature follow it."""
        state, physics = self._state, self._physics
        ratio = state.speed / physics.nominal_speed_rpm
        current = 1.2 + 1.1 * ratio**2 + 9_000 * flow_in * ratio
        rise = physics.motor_heat_k_per_a2 * current**2
        rise *= 1 + 2.5 * blocked
        state.motor_temperature += (
            STEP_S
            * (rise - (state.motor_temperature - physics.ambient_c))
            / physics.motor_time_constant_s
        )
        return current
