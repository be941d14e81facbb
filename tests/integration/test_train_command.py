"""``fusion train`` as users run it: shared by two processes, kept in MLflow, stopped when dead."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows import wiring
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.replay import replay
from flows.settings import Settings
from fusion.errors import CollapseError
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.schema import Quality, TelemetryBatch
from fusion.training import loop, recipe_named

ROOT = Path(__file__).parents[2]
PLANT_TEXT = """
prefix: shared
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1.0
streams:
  - {name: process, modality: telemetry, rate_hz: 2, tags: [
      {name: level, unit: m, range: [-5, 5]}, {name: heat, unit: K, range: [-5, 5]},
      {name: flow, unit: l/min, range: [-5, 5]}, {name: current, unit: A, range: [-5, 5]}]}
"""
NUM_ROWS = 600


def batches() -> list[TelemetryBatch]:
    """Synthetic telemetry: tags that swing, with noise."""
    draw = np.random.default_rng(0)
    t_R_ns = 1_700_000_000_000_000_000 + np.arange(NUM_ROWS) * 500_000_000
    values_RC = np.sin(np.arange(NUM_ROWS)[:, None] / np.array([6, 9, 14, 5]))
    values_RC += 0.1 * draw.standard_normal(values_RC.shape)
    return [
        TelemetryBatch(
            "process",
            ("level", "heat", "flow", "current"),
            t_R_ns[at : at + 20],
            t_R_ns[at : at + 20],
            t_R_ns[at : at + 20],
            values_RC[at : at + 20],
            np.full((20, 4), Quality.GOOD, np.uint8),
            np.zeros((20, 4), np.uint32),
        )
        for at in range(0, NUM_ROWS, 20)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def plant_file(tmp_path: Path, settings: Settings) -> Path:
    """A plant whose records are in the lake."""
    path = tmp_path / "shared.yaml"
    path.write_text(PLANT_TEXT)
    plant = load_plant(path)
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        replay(batches(), publisher, plant, speed=None, clock=wiring.open_clock())
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        lake = wiring.open_lake(settings)
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    return path


def kept(settings: Settings, plant: Plant) -> list[Run]:
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name(plant.prefix)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_two_processes_make_one_model_and_keep_one_run(
    plant_file: Path, settings: Settings
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ["--recipe", "quick", "--steps", "6", "--seed", "3"]
    ended = subprocess.run(
        [*torchrun, "-m", "flows.cli", "train", str(plant_file), *options],
        env=os.environ | {"FUSION_DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = ended.stderr.splitlines()
    assert sum(line.startswith("step     0  sigreg") for line in said) == 1
    assert sum(line.startswith("step     6  sigreg") for line in said) == 1
    plant = load_plant(plant_file)
    (model_dir,) = (settings.models_dir / plant.prefix).iterdir()
    (run,) = kept(settings, plant)
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_version"] == model_dir.name
    assert run.data.params["seed"] == "3"
    manifest = load_manifest(model_dir)
    for name, value in manifest.gauges[-1].items():
        if name != "step":
            assert run.data.metrics[name] == pytest.approx(value, nan_ok=True)

    alone = train_from_lake(
        wiring.open_lake(settings), plant, recipe_named("quick", seed=3, steps=6), settings
    )
    for ours, theirs in zip(manifest.gauges, load_manifest(alone.model_dir).gauges, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3, nan_ok=True)


def test_a_collapsed_run_is_failed_with_the_reason_and_its_last_gauges(
    plant_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MIN_RANK", 1e9)
    plant, recipe = load_plant(plant_file), recipe_named("quick", steps=30)
    with pytest.raises(CollapseError, match="must keep rankme"):
        train_from_lake(wiring.open_lake(settings), plant, recipe, settings)
    (run,) = kept(settings, plant)
    assert run.info.status == "FAILED"
    assert "must keep rankme above" in run.data.tags["mlflow.note.content"]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    measured = client.get_metric_history(run.info.run_id, "rankme")
    assert [each.step for each in measured] == [0, 15, 30]
    assert not (settings.models_dir / plant.prefix).exists()


def test_where_no_runs_are_kept_none_are(plant_file: Path, settings: Settings) -> None:
    quiet = settings.model_copy(update={"mlflow_uri": "none"})
    train_from_lake(
        wiring.open_lake(quiet), load_plant(plant_file), recipe_named("quick", steps=2), quiet
    )
    assert not (settings.data_dir / "mlflow.sqlite").exists()
