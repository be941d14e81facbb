"""The plant of the loop: streams of the simulated rig, as ever, changed for good, or lied about.

Shapes: R rows, C tags.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from flows import wiring
from flows.plant_files import load_plant
from flows.replay import replay
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, TelemetryStream
from fusion.schema import Payload, TelemetryBatch
from fusion.simulation import FaultInterval, Scenario, simulate
from fusion.simulation.dynamics import BLOCK_S, Rig
from fusion.simulation.instruments import read_instruments
from fusion.simulation.scenario import EPOCH_NS, Physics

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
AS_EVER = Physics()


class Lasting(FaultInterval):
    """What happened to the rig before, and stays as it is."""

    def severity_at(self, time_s: float) -> float:
        """Return the same at all times: it neither begins nor grows."""
        del time_s
        return self.severity


@dataclass(frozen=True, slots=True)
class Change:
    """How the plant is, and what happened to it for good."""

    told: str = "as ever"
    physics: Physics = AS_EVER
    faults: tuple[FaultInterval, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """What a plant of so many streams goes through in its story."""

    change: Change
    streams: tuple[str, ...] = ("process",)
    steps: int | None = None
    """Of a training; None is the recipe's. Sound and pictures are learned more slowly."""


UNCHANGED = Change()
DRIFTS = {
    "product": Drift(
        Change(
            "another product is pumped",  # (comes colder, and flows more easily)
            replace(AS_EVER, inflow_temperature_c=12.0, valve_coefficient=2.7e-4),
        )
    ),
    "bearing": Drift(
        Change(
            "the bearing was replaced by one of another make",  # (more balls, and rougher)
            replace(AS_EVER, bearing_order=5.43),
            (Lasting("bearing_wear", 0, float("inf"), 0.4),),
        ),
        ("process", "microphone"),
        steps=300,
    ),
    "camera": Drift(
        Change("the camera was moved", faults=(Lasting("camera_moved", 0, float("inf")),)),
        ("process", "camera"),
        steps=300,
    ),
}


@dataclass(frozen=True, slots=True)
class Hour:
    """A part of the plant's time, and how the plant is in it."""

    begin_s: float
    duration_s: float
    seed: int
    change: Change = field(default=UNCHANGED)
    is_poisoned: bool = False
    """Every reading is told upside down within its range: it moves, it is there, and it lies."""

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.begin_s + self.duration_s


def write_plant(folder: Path, prefix: str, streams: tuple[str, ...] = ("process",)) -> Path:
    """Write the plant file: the rig with only some of its streams."""
    described = yaml.safe_load(RIG.read_text(encoding="utf-8"))
    described["prefix"] = prefix
    described["streams"] = [each for each in described["streams"] if each["name"] in streams]
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return path


def send(plant_file: Path, settings: Settings, hour: Hour) -> None:
    """Send everything that the plant says in ``hour`` to the broker, as fast as it takes it."""
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        replay(payloads(hour, plant), publisher, plant, speed=None, clock=wiring.open_clock())


def payloads(hour: Hour, plant: Plant) -> Iterator[Payload]:
    """Yield what the plant's streams say."""
    start_ns = EPOCH_NS + round(hour.begin_s * NANOSECONDS)
    scenario = Scenario(
        hour.duration_s,
        hour.seed,
        start_ns,
        physics=hour.change.physics,
        faults=hour.change.faults,
    )
    if len(plant.streams) == 1:
        yield from _batches(hour, scenario, plant)
        return
    assert not hour.is_poisoned, "only a plant of instruments lies here"
    kept = {stream.name for stream in plant.streams}
    yield from (each for each in simulate(scenario, load_plant(RIG)) if each.stream in kept)


def _batches(hour: Hour, scenario: Scenario, plant: Plant) -> Iterator[TelemetryBatch]:
    """Yield what the instruments say, without drawing pictures that nobody looks at."""
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
