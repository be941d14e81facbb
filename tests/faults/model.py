"""A quickly trained model of the rig: right in shape, good enough to notice gross faults."""

from __future__ import annotations

import contextlib
from pathlib import Path

from flows import wiring
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.settings import Settings
from fusion.simulation import normal_scenario
from fusion.training import recipe_named
from tests.e2e.conftest import make_plant, publish


def quick_model(folder: Path) -> Path:
    """Return the folder of a model that was trained in a minute on five minutes of the rig."""
    settings = Settings(data_dir=folder / "trained")
    plant = load_plant(make_plant(folder, "learned"))
    publish(normal_scenario(duration_s=300, seed=7), plant, settings)
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "train")) as source:
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    return train_from_lake(lake, plant, recipe_named("quick"), settings).model_dir
