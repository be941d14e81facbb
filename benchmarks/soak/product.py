"""The product's own functions that the soak test calls: the one place to adapt when they change."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.broker import ROOT
from benchmarks.soak.signals import soak_payloads
from flows import wiring
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.live import open_live, run_live
from flows.replay import replay
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.plant import Plant
from fusion.schema import TopicPartition
from fusion.simulation import normal_scenario
from fusion.training import recipe_named


def train_quickly(plant: Plant, folder: Path, *, seconds: float) -> Path:
    """Return a model of ``plant``: right in shape, good for nothing but running."""
    settings = Settings(data_dir=folder)
    wiring.prepare_topics(settings, plant)
    clock = wiring.open_clock()
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        scenario = normal_scenario(duration_s=seconds, seed=7)
        payloads = (payload for _, payload in soak_payloads(scenario, plant))
        replay(payloads, publisher, plant, speed=None, clock=clock)
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "soak")) as source:
        assert ingest_once(source, lake, clock=clock).is_complete
    return train_from_lake(lake, plant, recipe_named("quick"), settings).model_dir


def start_live(
    plant_file: Path, model_dir: Path, settings: Settings, log: Path
) -> subprocess.Popen[bytes]:
    """Return the real live process, just started."""
    environment = os.environ | {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FUSION_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-m", "flows.cli", "live", str(plant_file)]
    with log.open("wb") as stream:
        return subprocess.Popen(
            [*command, "--model", str(model_dir)],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def live_group(plant: Plant) -> str:
    """Return the consumer group in which the live process of ``plant`` commits."""
    return f"live-{plant.prefix}"


def finish(plant: Plant, model_dir: Path, settings: Settings) -> dict[TopicPartition, Counts]:
    """Go on from the checkpoint, score the ticks that are still open, and return every count."""
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        return live.counts()
