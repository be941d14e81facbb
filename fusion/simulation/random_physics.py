"""Other rigs of the same kind: parameters drawn around the demo rig's, kept only if it can be run.

A drawn rig must do what the demo rig does: its pump must hold the highest level against the widest
valve, its heater the highest temperature at the largest flow, and its motor must stay below the
limit that the plant file sets. The formulas are the steady states of :mod:`dynamics`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fusion.simulation.dynamics import WATER_KJ_PER_M3_K
from fusion.simulation.scenario import Physics

SPREAD = 0.35
"""Largest part by which a parameter differs from the demo rig's."""
AMBIENT_C = (14.0, 30.0)
WARMER_THAN_INFLOW_C = 2.0
HIGHEST_LEVEL_M, HIGHEST_TEMPERATURE_C = 0.75, 33.0
"""The highest set-points that a simulated run takes."""
WIDEST_VALVE = 0.8
USUAL_VALVE = 0.58
"""The valve is open wider for moments only: against the widest the pump alone must hold."""
MOST_RPM, LEAST_RPM = 2_300.0, 600.0
HOTTEST_MOTOR_C = 60.0
SHARE_OF_HEATER = 0.9
VARIED = (
    "tank_area_m2",
    "pump_head_m",
    "pipe_resistance",
    "static_head_m",
    "valve_coefficient",
    "heater_max_kw",
    "heat_loss_kw_per_k",
    "motor_heat_k_per_a2",
    "motor_time_constant_s",
)


def random_physics(seed: int, *, spread: float = SPREAD) -> Physics:
    """Return the parameters of another rig; equal seeds give equal rigs.

    Example:
        >>> random_physics(1) == random_physics(1), random_physics(1) == random_physics(2)
        (True, False)
    """
    draw = np.random.default_rng([seed, 4242])
    while True:
        physics = _drawn(draw, spread)
        if is_runnable(physics):
            return physics


def is_runnable(physics: Physics) -> bool:
    """Whether the rig's controllers can reach every set-point of a run, with the motor cool."""
    widest = speed_rpm(physics, HIGHEST_LEVEL_M, _flow(physics, HIGHEST_LEVEL_M, WIDEST_VALVE))
    lightest = speed_rpm(physics, 0.5, _flow(physics, 0.5, 0.25))
    flow_m3_s = _flow(physics, HIGHEST_LEVEL_M, USUAL_VALVE)
    usual = speed_rpm(physics, HIGHEST_LEVEL_M, flow_m3_s)
    return (
        lightest >= LEAST_RPM
        and widest <= MOST_RPM
        and heater_kw(physics, flow_m3_s) <= SHARE_OF_HEATER * physics.heater_max_kw
        and motor_c(physics, usual, flow_m3_s) <= HOTTEST_MOTOR_C
    )


def speed_rpm(physics: Physics, level_m: float, flow_m3_s: float) -> float:
    """Return the pump speed that feeds ``flow_m3_s`` into a tank filled to ``level_m``."""
    friction_m = physics.pipe_resistance * flow_m3_s**2
    head_m = physics.static_head_m + level_m + friction_m
    return physics.nominal_speed_rpm * math.sqrt(head_m / physics.pump_head_m)


def heater_kw(physics: Physics, flow_m3_s: float) -> float:
    """Return the power that keeps the water at the highest temperature of a run."""
    rise_k = HIGHEST_TEMPERATURE_C - physics.inflow_temperature_c
    lost_kw = physics.heat_loss_kw_per_k * (HIGHEST_TEMPERATURE_C - physics.ambient_c)
    return WATER_KJ_PER_M3_K * flow_m3_s * rise_k + lost_kw


def motor_c(physics: Physics, rpm: float, flow_m3_s: float) -> float:
    """Return the winding's final temperature at a speed and a flow."""
    ratio = rpm / physics.nominal_speed_rpm
    current_a = 1.2 + 1.1 * ratio**2 + 9_000 * flow_m3_s * ratio
    return physics.ambient_c + physics.motor_heat_k_per_a2 * current_a**2


def _flow(physics: Physics, level_m: float, valve: float) -> float:
    return physics.valve_coefficient * valve * math.sqrt(level_m)


def _drawn(draw: np.random.Generator, spread: float) -> Physics:
    demo = Physics()
    factors = 1 + spread * draw.uniform(-1, 1, size=len(VARIED))
    varied = {name: getattr(demo, name) * f for name, f in zip(VARIED, factors, strict=True)}
    ambient_c = float(draw.uniform(*AMBIENT_C))
    return replace(
        demo,
        **varied,
        ambient_c=ambient_c,
        inflow_temperature_c=ambient_c - WARMER_THAN_INFLOW_C,
        num_blades=int(draw.integers(5, 9)),
        bearing_order=demo.bearing_order * float(draw.uniform(0.8, 1.2)),
    )
