"""The Prefect flows on a real ephemeral server, with the embedded broker and Delta tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness

from flows import wiring
from flows.cli.plant import load_plant
from flows.prefect_ingest import ingest
from flows.prefect_train import train
from flows.replay import replay
from flows.settings import Settings
from fusion.errors import RecipeError
from fusion.manifest import load_manifest
from fusion.schema import Record
from fusion.simulation import normal_scenario, simulate

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def plant_file(tmp_path: Path) -> Path:
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(RIG.read_text()) | {"prefix": "flowed"}))
    return path


def test_ingest_stores_each_record_once_and_train_makes_a_model(
    plant_file: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    publisher = wiring.open_publisher(settings)
    payloads = simulate(normal_scenario(duration_s=240, seed=1), plant)
    sent = replay(payloads, publisher, plant, speed=None, clock=wiring.open_clock())
    publisher.close()

    num_sent = sum(sent.num_messages.values())
    assert ingest(str(plant_file), settings=settings) == num_sent
    assert ingest(str(plant_file), settings=settings) == 0

    made = train(str(plant_file), "quick", settings=settings, steps=10)
    manifest = load_manifest(made.model_dir)
    manifest.require_fits(plant)
    assert manifest.data_version == wiring.open_lake(settings).version(plant.sense_topics)
    assert manifest.num_train_ticks + manifest.num_calibration_ticks == 480
    assert [gauges["step"] for gauges in manifest.gauges] == [0, 10]

    # More comes, what the model saw is joined and expires: it can still be trained again.
    lake, upkeep = wiring.open_lake(settings), wiring.open_lake_upkeep(settings)
    for topic in plant.sense_topics:
        lake.append([Record(topic, 0, 10**6, "k", b"no payload", {}, t_broker_ns=2**62)])
        upkeep.compact(topic, target_bytes=32_000_000)
        upkeep.expire(topic, before_ns=2**62)
    assert len(lake.read(plant.sense_topics)) == len(plant.sense_topics)
    again = train(
        str(plant_file), "quick", settings=settings, steps=10, data_version=manifest.data_version
    )
    repeated = load_manifest(again.model_dir)
    assert repeated.data_version == manifest.data_version
    assert repeated.num_train_ticks == manifest.num_train_ticks
    assert repeated.gauges == manifest.gauges


def test_train_without_data_says_what_to_do(plant_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fusion ingest"):
        train(str(plant_file), "quick", settings=Settings(data_dir=tmp_path / "empty"))
