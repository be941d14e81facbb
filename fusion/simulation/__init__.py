"""A simulated pump rig with telemetry, sound, pictures and known faults. It is a simulation."""

from fusion.simulation.dynamics import SetpointPlan
from fusion.simulation.ground_truth import LimitPassing, limits_passed, truth
from fusion.simulation.random_physics import random_physics
from fusion.simulation.rig import simulate
from fusion.simulation.scenario import (
    EPOCH_NS,
    FAULTS,
    FaultInterval,
    Physics,
    Scenario,
    fault_campaign,
    normal_scenario,
)

__all__ = [
    "EPOCH_NS",
    "FAULTS",
    "FaultInterval",
    "LimitPassing",
    "Physics",
    "Scenario",
    "SetpointPlan",
    "fault_campaign",
    "limits_passed",
    "normal_scenario",
    "random_physics",
    "simulate",
    "truth",
]
