"""The plant of the loop: the telemetry of the simulated rig, normal, changed, or lied about.

Shapes: R rows, C tags.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from flows import wiring
from flows.plant_files import load_plant
from flows.replay import replay
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, TelemetryStream
from fusion.schema import TelemetryBatch
from fusion.simulation import Scenario
from fusion.simulation.dynamics import BLOCK_S, Rig
from fusion.simulation.instruments import read_instruments
from fusion.simulation.scenario import EPOCH_NS, Physics

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
AS_EVER = Physics()
PRODUCT = replace(AS_EVER, inflow_temperature_c=12.0, valve_coefficient=2.7e-4)
"""What is pumped comes colder, and flows more easily."""


@dataclass(frozen=True, slots=True)
class Hour:
    """A part of the plant's time, and what is pumped in it."""

    begin_s: float
    duration_s: float
    seed: int
    physics: Physics = AS_EVER
    is_poisoned: bool = False
    """Every reading is told upside down within its range: it moves, it is there, and it lies."""

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.begin_s + self.duration_s


def write_plant(folder: Path, prefix: str) -> Path:
    """Write the plant file: the rig without its microphone and camera."""
    described = yaml.safe_load(RIG.read_text(encoding="utf-8"))
    described["prefix"] = prefix
    described["streams"] = [each for each in described["streams"] if each["name"] == "process"]
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return path


def send(plant_file: Path, settings: Settings, hour: Hour) -> None:
    """Send everything that the plant says in ``hour`` to the broker, as fast as it takes it."""
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        replay(batches(hour, plant), publisher, plant, speed=None, clock=wiring.open_clock())


def batches(hour: Hour, plant: Plant) -> Iterator[TelemetryBatch]:
    """Yield what the plant's instruments say."""
    start_ns = EPOCH_NS + round(hour.begin_s * NANOSECONDS)
    scenario = Scenario(hour.duration_s, hour.seed, start_ns, physics=hour.physics)
    rig, (stream,) = Rig(scenario), plant.telemetry_streams
    for block in range(round(hour.duration_s / BLOCK_S)):
        for batch in read_instruments(rig.block(), scenario, block=block, stream=stream.name):
            yield _upside_down(batch, stream) if hour.is_poisoned else batch


def _upside_down(batch: TelemetryBatch, stream: TelemetryStream) -> TelemetryBatch:
    tags = {tag.name: tag for tag in stream.tags}
    values_RC = batch.values_RC.copy()
    for column, name in enumerate(batch.tags):
        if not tags[name].setpoint:
            values_RC[:, column] = np.sum(tags[name].range) - values_RC[:, column]
    return replace(batch, values_RC=values_RC)
