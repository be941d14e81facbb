"""A small trained model of the simulated rig, and recorded runs to watch with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from flows import wiring
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.replay import replay
from flows.settings import Settings
from fusion.plant import Plant
from fusion.simulation import FaultInterval, Scenario, normal_scenario, simulate
from fusion.simulation.scenario import EPOCH_NS
from fusion.training import recipe_named

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
FAULTS = Scenario(
    duration_s=330,
    seed=8,
    t_start_ns=EPOCH_NS + 3_600_000_000_000,
    faults=(FaultInterval("bearing_wear", 60, 100), FaultInterval("camera_moved", 220, 250)),
)


@dataclass(frozen=True)
class Rig:
    """A plant of its own on a broker, and the model to watch it with."""

    plant: Plant
    plant_file: Path
    model_dir: Path
    settings: Settings


def make_plant(folder: Path, prefix: str) -> Path:
    """Write the rig's plant file with another topic prefix."""
    content = yaml.safe_load(RIG.read_text())
    content["prefix"] = prefix
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def publish(scenario: Scenario, plant: Plant, settings: Settings) -> None:
    """Send everything that the rig says in ``scenario``."""
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        payloads = simulate(scenario, plant)
        replay(payloads, publisher, plant, speed=None, clock=wiring.open_clock())


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A quickly trained model: right in shape, good enough to notice gross faults."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    trained = shared / "trained.path"
    with FileLock(shared / "trained.lock"):
        # One worker trains it, the others read it; tests change copies.
        if not trained.exists():
            trained.write_text(str(_train(tmp_path_factory.mktemp("trained"))))
    return Path(trained.read_text())


def _train(folder: Path) -> Path:
    settings = Settings(data_dir=folder)
    plant = load_plant(make_plant(folder, "learned"))
    publish(normal_scenario(duration_s=300, seed=7), plant, settings)
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    return train_from_lake(lake, plant, recipe_named("quick"), settings).model_dir
