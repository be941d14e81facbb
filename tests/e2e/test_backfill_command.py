"""The command itself: stopped with Ctrl-C as a terminal does it, and run again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from flows import wiring
from flows.backfill import Wanted, backfill
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.settings import Settings
from tests.e2e.conftest import FAULTS, make_plant, publish
from tests.e2e.test_backfill import at_once


def test_ctrl_c_leaves_nothing_behind_and_the_next_run_goes_on(
    model_dir: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    plant_file = make_plant(tmp_path, "commanded")
    plant = load_plant(plant_file)
    publish(FAULTS, plant, settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        lake = wiring.open_lake(settings)
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    environment = os.environ | {
        "FUSION_DATA_DIR": str(settings.data_dir),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    options = ["--model", str(model_dir), "--shard-hours", "0.005", "--workers", "1"]
    command = [sys.executable, "-m", "flows.cli", "backfill", str(plant_file), *options]

    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(settings.backfill_dir.rglob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert psutil.wait_procs(started, timeout=30)[1] == []

    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said = " ".join(finished.stderr.split())
    assert "finished before" in said
    version = model_dir.name
    table = wiring.open_findings(settings, plant)
    told = {"plant": str(plant.address), "model_version": version}
    found = list(table.read(**told))
    wanted = Wanted(model_dir, num_shards=1, is_afresh=True)
    report = backfill(wanted, plant, settings, submit=at_once)
    assert f"{report.num_windows} scores" in said
    assert list(table.read(**told)) == found
