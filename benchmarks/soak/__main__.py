"""``python -m benchmarks.soak``: run the soak test, write docs/benchmarks/soak.md, .json, .png."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.broker import ROOT, own_kafka
from benchmarks.soak.page import page
from benchmarks.soak.picture import draw
from benchmarks.soak.product import finish, start_live, train_quickly
from benchmarks.soak.watch import Progress, Watch, watching
from flows import wiring
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.simulation import EPOCH_NS

PLANT_FILE = Path(__file__).parent / "plant.yaml"
LIVE_AFTER_S = 3_600
"""What is watched lies this much later in event time than what was learned."""
SETTLED_SAMPLES = 5
"""So many samples without a new score after the last record: nothing more can close."""


def main() -> None:
    """Run what the command line asks for; exit status 1 when the verdict is no."""
    options = _options()
    plant = parse_plant(PLANT_FILE.read_text(encoding="utf-8"), origin=PLANT_FILE.name)
    said: dict[str, Any] = {
        "plant_minutes": options.minutes,
        "speed": options.speed,
        "machine": machine.describe(),
    }
    with own_kafka() as settings:
        print("training a model of the plant for a few seconds")
        model_dir = train_quickly(plant, settings.data_dir / "learned", seconds=300)
        wiring.prepare_topics(settings, plant)
        said |= _soak(plant, model_dir, settings, options)
        print("scoring the ticks that are still open")
        counts = finish(plant, model_dir, settings)
        said["outcomes"] = {
            part.topic: asdict(each) | {"read": each.read}
            for part, each in sorted(counts.items())
            if part.topic in plant.sense_topics
        }
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(said) + "\n", encoding="utf-8")
    draw(said, folder / "soak.png")
    text, is_passed = page(said)
    (folder / "soak.md").write_text(text, encoding="utf-8")
    print(f"{folder / 'soak.md'} is written; verdict: {'passed' if is_passed else 'NOT passed'}")
    sys.exit(0 if is_passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=60.0, help="of plant time")
    parser.add_argument("--speed", type=float, default=10.0, help="plant time for wall time")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two samples")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser.parse_args()


def _soak(
    plant: Plant, model_dir: Path, settings: Settings, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the samples of the run, and what was sent and what the broker holds."""
    live = start_live(PLANT_FILE, model_dir, settings, settings.data_dir / "live.log")
    publisher = _start_publisher(plant, settings, options)
    assert publisher.stdout is not None
    progress = Progress(publisher.stdout)
    try:
        with watching(settings, plant, psutil.Process(live.pid)) as watch:
            samples = _sample(watch, live, publisher, progress, options.every)
            on_broker = watch.on_broker()
        if publisher.wait():
            raise RuntimeError("the publisher must send everything; see its message above")
    finally:
        publisher.terminate()
        live.send_signal(signal.SIGTERM)
        status = live.wait(timeout=60)
    return {
        "samples": samples,
        "sent": progress.last()["counts"],
        "on_broker": on_broker,
        "live_exit_status": status,
    }


def _start_publisher(
    plant: Plant, settings: Settings, options: argparse.Namespace
) -> subprocess.Popen[bytes]:
    order = json.dumps(
        {
            "bootstrap": settings.kafka_bootstrap,
            "plant": plant.model_dump_json(),
            "seconds": options.minutes * 60,
            "seed": 8,
            "t_start_ns": EPOCH_NS + LIVE_AFTER_S * NANOSECONDS,
            "speed": options.speed,
        }
    )
    command = [sys.executable, "-m", "benchmarks.soak.publisher", order]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def _sample(
    watch: Watch,
    live: subprocess.Popen[bytes],
    publisher: subprocess.Popen[bytes],
    progress: Progress,
    every_s: float,
) -> list[dict[str, Any]]:
    """Return a sample every ``every_s`` until everything that can close is scored."""
    samples: list[dict[str, Any]] = []
    num_settled = 0
    while num_settled < SETTLED_SAMPLES:
        if live.poll() is not None:
            raise RuntimeError(f"the live process must run on, but ended with {live.returncode}")
        is_sending = publisher.poll() is None
        samples.append({**watch.sample(progress), "is_sending": is_sending})
        is_settled = not is_sending and samples[-1]["num_scores"] == samples[-2]["num_scores"]
        num_settled = num_settled + 1 if is_settled else 0
        if len(samples) % 15 == 0:
            print({key: samples[-1][key] for key in ("t_s", "rss_mb", "behind_s", "num_scores")})
        time.sleep(every_s)
    return samples


if __name__ == "__main__":
    main()
