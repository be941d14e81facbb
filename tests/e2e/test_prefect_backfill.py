"""The backfill flow on real runners: a pool of processes, and Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows import wiring
from flows.backfill import Wanted
from flows.backfill import backfill as work
from flows.backfill_shard import compute_shard
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.prefect_backfill import Runner, run_backfill, task_runner
from flows.settings import Settings
from fusion.errors import InputError
from fusion.ports import Finding
from fusion.simulation import normal_scenario
from tests.e2e.conftest import Rig, make_plant, publish
from tests.e2e.test_backfill import Done


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def rig(model_dir: Path, tmp_path: Path) -> Rig:
    """Two minutes of a rig in the lake."""
    settings = Settings(data_dir=tmp_path)
    plant_file = make_plant(tmp_path, "pooled")
    plant = load_plant(plant_file)
    publish(normal_scenario(duration_s=120, seed=4), plant, settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        lake = wiring.open_lake(settings)
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    return Rig(plant, plant_file, model_dir, settings)


def kept(rig: Rig, model_version: str) -> list[Finding]:
    table = wiring.open_findings(rig.settings, rig.plant)
    return list(table.read(plant=str(rig.plant.address), model_version=model_version))


@pytest.mark.parametrize(
    "runner", ["process", pytest.param("ray", marks=pytest.mark.xdist_group("ray"))]
)
def test_shards_elsewhere_come_to_the_same(rig: Rig, runner: Runner) -> None:
    here = work(
        Wanted(rig.model_dir, num_shards=1),
        rig.plant,
        rig.settings,
        submit=lambda job: Done(compute_shard(job)),
    )
    expected = kept(rig, here.model_version)
    wanted = Wanted(rig.model_dir, shard_hours=30 / 3600)
    shown: list[int] = []
    report = run_backfill(
        str(rig.plant_file),
        wanted,
        runner=runner,
        num_workers=2,
        settings=rig.settings,
        on_progress=lambda progress: shown.append(progress.num_judged),
    )
    assert report.num_shards == 4
    assert report.num_windows == here.num_windows > 200
    assert kept(rig, report.model_version) == expected
    assert shown[-4:] == [1, 2, 3, 4]
    assert not list(rig.settings.backfill_dir.rglob("*.parquet")), "evidence is kept until judged"


def test_without_the_extra_ray_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.prefect_backfill.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"industrial-fusion\[ray\]"):
        task_runner("ray", None)


def test_a_mistake_reaches_the_caller_as_it_is(rig: Rig) -> None:
    wanted = Wanted(rig.model_dir, data_version="nonsense")
    with pytest.raises(InputError, match="lake version"):
        run_backfill(str(rig.plant_file), wanted, settings=rig.settings)
