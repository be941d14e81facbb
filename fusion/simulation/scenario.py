"""What happens in a simulated run: how long, which faults when, how strong the distractors are.

Everything follows from a seed; two equal scenarios give the same records, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusion.errors import InputError
from fusion.plant import NANOSECONDS

EPOCH_NS = 1_767_225_600 * NANOSECONDS
"""2026-01-01T00:00:00Z, when every simulated plant was switched on."""


@dataclass(frozen=True, slots=True)
class Physics:
    """The rig's parameters; draw others for another rig of the same kind."""

    tank_area_m2: float = 0.01
    tank_height_m: float = 1.2
    pump_head_m: float = 6.0
    """Head at nominal speed and no flow."""
    pipe_resistance: float = 3.4e8
    """Head lost per squared flow, s^2/m^5."""
    static_head_m: float = 1.0
    nominal_speed_rpm: float = 1_500.0
    valve_coefficient: float = 2.4e-4
    """Flow per opening and square root of level, m^2.5/s."""
    heater_max_kw: float = 9.0
    inflow_temperature_c: float = 20.0
    ambient_c: float = 22.0
    heat_loss_kw_per_k: float = 0.02
    motor_heat_k_per_a2: float = 2.8
    """Final rise of the winding's temperature per squared ampere."""
    motor_time_constant_s: float = 80.0
    num_blades: int = 6
    bearing_order: float = 3.58
    """Ball passes of the outer race per turn of the shaft."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A fault that the rig can have, and in which stream a careful observer meets it first."""

    title: str
    first_stream: str
    ramp_s: float
    note: str


FAULTS: dict[str, FaultKind] = {
    "bearing_wear": FaultKind(
        "Bearing wear", "microphone", 60, "impacts in the sound; vibration only when it is bad"
    ),
    "leak": FaultKind("Leak at the flange", "camera", 60, "drips in the picture; later less level"),
    "temperature_drift": FaultKind(
        "Drifting thermometer", "process", 80, "the reading creeps away, the water does not"
    ),
    "stuck_level_sensor": FaultKind(
        "Stuck level sensor", "process", 0.5, "the reading stands still, the sight glass goes on"
    ),
    "cavitation": FaultKind(
        "Cavitation", "microphone", 60, "bursts in the sound, then pressure and flow"
    ),
    "valve_stiction": FaultKind(
        "Sticking valve", "process", 1, "the position follows its command, the flow does not"
    ),
    "heater_fouling": FaultKind(
        "Fouled heater", "process", 110, "more and more power for the same heat"
    ),
    "motor_overheating": FaultKind(
        "Blocked motor cooling", "process", 60, "the winding warms past its limit"
    ),
    "misalignment": FaultKind(
        "Misaligned coupling", "microphone", 50, "second harmonic in the sound, then vibration"
    ),
    "camera_moved": FaultKind("Camera knocked aside", "camera", 0.5, "the picture is shifted"),
}


@dataclass(frozen=True, slots=True)
class FaultInterval:
    """One injected fault. Severity rises from 0 at the onset to 1 after the kind's ramp."""

    name: str
    onset_s: float
    end_s: float
    severity: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise InputError(
                f"a fault must be one that the rig can have, got {self.name!r}; "
                f"choose from {sorted(FAULTS)}"
            )
        if not 0 <= self.onset_s < self.end_s or not 0 < self.severity <= 1:
            raise InputError(
                "a fault must satisfy 0 <= onset_s < end_s and 0 < severity <= 1, got "
                f"onset_s {self.onset_s:g}, end_s {self.end_s:g}, severity {self.severity:g} "
                f"for {self.name!r}; change them"
            )

    def severity_at(self, time_s: float) -> float:
        """Return how bad the fault is, from 0 (none) to ``severity``."""
        if not self.onset_s <= time_s < self.end_s:
            return 0.0
        return self.severity * min(1.0, (time_s - self.onset_s) / FAULTS[self.name].ramp_s)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run of the simulated rig."""

    duration_s: float
    seed: int
    t_start_ns: int = EPOCH_NS
    faults: tuple[FaultInterval, ...] = ()
    distractors: float = 1.0
    physics: Physics = field(default_factory=Physics)

    def __post_init__(self) -> None:
        if not self.duration_s > 0 or not self.distractors >= 0:
            raise InputError(
                "a scenario must satisfy duration_s > 0 and distractors >= 0, got "
                f"{self.duration_s:g} and {self.distractors:g}; change them"
            )


def normal_scenario(*, duration_s: float, seed: int, after_s: float = 0.0) -> Scenario:
    """Return a run without faults; set-points change all the same."""
    return Scenario(duration_s, seed, EPOCH_NS + round(after_s * NANOSECONDS))


def fault_campaign(
    *, seed: int, after_s: float = 0.0, fault_s: float = 120.0, gap_s: float = 150.0
) -> Scenario:
    """Return a run with every fault once, in an order drawn from ``seed``, with gaps between."""
    order = np.random.default_rng([seed, 77]).permutation(list(FAULTS)).tolist()
    faults = tuple(
        FaultInterval(name, gap_s + index * (fault_s + gap_s), (index + 1) * (fault_s + gap_s))
        for index, name in enumerate(order)
    )
    duration_s = gap_s + len(order) * (fault_s + gap_s)
    return Scenario(duration_s, seed, EPOCH_NS + round(after_s * NANOSECONDS), faults)
