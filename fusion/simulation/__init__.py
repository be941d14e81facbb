"""A simulated pump rig with telemetry, sound, pictures and known faults. It is a simulation."""

from fusion.simulation.rig import simulate
from fusion.simulation.scenario import (
    EPOCH_NS,
    FAULTS,
    FaultInterval,
    Physics,
    Scenario,
    fault_campaign,
    normal_scenario,
    truth,
)

__all__ = [
    "EPOCH_NS",
    "FAULTS",
    "FaultInterval",
    "Physics",
    "Scenario",
    "fault_campaign",
    "normal_scenario",
    "simulate",
    "truth",
]
