"""Trials of a recipe on real runners: a pool of processes, and a local Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows import wiring
from flows.ingest import ingest_once
from flows.models import models_of
from flows.plant_files import load_plant
from flows.prefect_backfill import Runner
from flows.prefect_trials import trials
from flows.retraining_run import freeze
from flows.settings import Settings
from flows.trials import jobs_of, run_trial
from fusion.errors import RecipeError
from fusion.manifest import load_manifest
from fusion.retraining.incidents import Examination
from fusion.training import recipe_named
from tests.swinging import T_BEGIN_NS, send, swing, write_plant

pytestmark = pytest.mark.xdist_group("ray")
CHANGES = [{"learning_rate": 1e-6}, {"model": {"width": 64}}]
NUM_S, EXAMINED_S = 600, 100


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_uri="none")


@pytest.fixture
def plant_file(tmp_path: Path, settings: Settings) -> Path:
    """A plant with ten minutes in the lake, of which the last are kept for an examination."""
    path = write_plant(tmp_path)
    plant = send(path, settings, 0, swing(0, NUM_S))
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        ingest_once(source, wiring.open_lake(settings), clock=wiring.open_clock())
    stop = T_BEGIN_NS // plant.tick_ns + NUM_S
    kept = Examination(
        plant=str(plant.address),
        plant_fingerprint=plant.fingerprint(),
        data_version=wiring.open_lake(settings).version(plant.sense_topics),
        first_tick=stop - EXAMINED_S,
        stop_tick=stop,
    )
    freeze(settings, plant, kept)
    return path


@pytest.mark.parametrize(("runner", "num_workers"), [("process", 2), ("ray", 1)])
def test_trials_elsewhere_are_compared_on_the_same_data(
    plant_file: Path, settings: Settings, runner: Runner, num_workers: int
) -> None:
    found = trials(
        str(plant_file),
        CHANGES,
        "quick",
        steps=15,
        runner=runner,
        num_workers=num_workers,
        settings=settings,
    )
    best, worst = (each.figure("rankme") for each in found)
    assert best >= worst > 0
    assert sorted(str(each.changes) for each in found) == sorted(map(str, CHANGES))
    plant = load_plant(plant_file)
    assert models_of(settings, plant) == [], "no live process finds a trial"
    folder = settings.retraining_dir / plant.prefix / "trials"
    made = [load_manifest(folder / each.name / "model") for each in found]
    assert len({each.data_version for each in made}) == 1
    learned = {each.num_train_ticks + each.num_calibration_ticks for each in made}
    assert learned == {NUM_S - EXAMINED_S}, "nobody learns from an examination"
    # The same again is known already.
    jobs = jobs_of(plant_file, recipe_named("quick", seed=0, steps=15), CHANGES, settings)
    again = {run_trial(job).name: run_trial(job) for job in jobs}
    assert again == {each.name: each for each in found}


def test_what_would_make_trials_incomparable_is_refused(
    plant_file: Path, settings: Settings
) -> None:
    recipe = recipe_named("quick")
    with pytest.raises(RecipeError, match="must share"):
        jobs_of(plant_file, recipe, [{"held_out": 0.5}], settings)
    with pytest.raises(RecipeError, match="break rules"):
        jobs_of(plant_file, recipe, [{"stepz": 5}], settings)
