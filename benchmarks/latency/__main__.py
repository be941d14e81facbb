"""``make bench-latency``: ten plants in real time through Kafka, the live process and Triton."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.broker import ROOT, own_kafka
from benchmarks.latency.measuring import Key, closing_times, latencies
from benchmarks.latency.page import as_page
from benchmarks.machine import describe
from connectors.triton_io import TritonServer
from flows import wiring
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.learn import train_from_lake
from flows.replay import replay
from flows.settings import Settings
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Score
from fusion.simulation import normal_scenario, simulate
from fusion.training import recipe_named

RIG = ROOT / "plants" / "rig.yaml"
PREFIX = "paced"
GRACE_S = 5.0
READY_PATIENCE_S = 90.0


def main() -> None:
    """Measure, then write the page and the figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=150.0, help="of plant and wall time")
    parser.add_argument("--model", type=Path, help="a version of the rig; default: one is trained")
    parser.add_argument("--inference", choices=("triton", "local"), default="triton")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "latency.md")
    asked = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as place:
        model_dir = asked.model or train(Path(place) / "trained")
        found = measure(Path(place), model_dir, asked)
    for what in ("scores", "alarms"):
        print(what, found[what], flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(as_page(machine, found), encoding="utf-8")
    asked.out.with_suffix(".json").write_text(
        json.dumps({"machine": machine, **found}, indent=1) + "\n", encoding="utf-8"
    )


def train(folder: Path) -> Path:
    """Return a model of the standard size: its weights are good for nothing but running."""
    settings, plant = Settings(data_dir=folder), load_plant(RIG)
    wiring.prepare_topics(settings, plant)
    clock = wiring.open_clock()
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        payloads = simulate(normal_scenario(duration_s=300, seed=7), plant)
        replay(payloads, publisher, plant, speed=None, clock=clock)
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "bench")) as source:
        assert ingest_once(source, lake, clock=clock).is_complete
    return train_from_lake(lake, plant, recipe_named("standard", steps=20), settings).model_dir


def measure(place: Path, model_dir: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the latencies of a run, and what each process took of a core."""
    with own_kafka() as kafka, serve_triton(place) as server:
        plants = _plants(place, asked.plants)
        _take_in(model_dir, kafka.data_dir)
        told = place / "sent.jsonl"
        order = {
            "bootstrap": kafka.kafka_bootstrap,
            "plants": [str(path) for path in plants],
            "seconds": asked.seconds,
            "told": str(told),
        }
        first = load_plant(plants[0])
        wiring.prepare_topics(kafka, first)
        with _live(place, plants, kafka, server, asked.inference) as live:
            sender = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.latency.sending", json.dumps(order)], cwd=ROOT
            )
            try:
                heard, cores = _listen(kafka, first, sender, live, server)
            finally:
                sender.kill()
                sender.wait()
        num_bytes = (place / "live.log").stat().st_size
    closes_ns = closing_times(first, told)
    scores = latencies(closes_ns, [(key, t) for kind, key, t in heard if kind == "scores"])
    alarms = latencies(closes_ns, [(key, t) for kind, key, t in heard if kind == "alarm-events"])
    manifest = load_manifest(model_dir)
    return {
        "plants": asked.plants,
        "seconds": asked.seconds,
        "inference": asked.inference,
        "num_parameters": manifest.num_parameters,
        "window_ticks": manifest.window_ticks,
        "closed_ticks": len(closes_ns),
        "scores": scores and asdict(scores),
        "alarms": alarms and asdict(alarms),
        "cores": cores,
        "log_bytes": num_bytes,
    }


def _listen(
    kafka: Settings,
    plant: Plant,
    sender: subprocess.Popen[bytes],
    live: subprocess.Popen[bytes],
    server: TritonServer,
) -> tuple[list[tuple[str, Key, int]], dict[str, float]]:
    """Return what was in hand when, and what each process took of a core meanwhile."""
    topics = tuple(plant.topic(kind) for kind in ("scores", "alarm-events"))
    heard: list[tuple[str, Key, int]] = []
    usage = _Usage({"fusion live": live.pid, "Triton": server.status().pid or 0})
    ended_s: float | None = None
    with contextlib.closing(wiring.open_source(kafka, topics, "bench-listens")) as source:
        while ended_s is None or time.monotonic() - ended_s < GRACE_S:
            records = source.poll(timeout_s=0.02)
            now_ns = time.time_ns()
            for record in records:
                kind = record.topic.rpartition(".")[2]
                heard += [(kind, key, now_ns) for key in _keys(kind, record.value, plant)]
            if heard:
                usage.begin()
            if ended_s is None and sender.poll() is not None:
                ended_s = time.monotonic()
                usage.end()
    if sender.returncode:
        raise RuntimeError(f"the sender must end well, and ended with {sender.returncode}")
    return heard, usage.cores


def _keys(kind: str, value: bytes, plant: Plant) -> Iterator[Key]:
    if kind == "scores":
        score = Score.model_validate_json(value)
        yield score.plant, score.tick
        return
    event = AlarmEvent.model_validate_json(value)
    if event.transition in {"raised", "cleared"}:
        yield event.state.plant, event.t_ns // plant.tick_ns - 1


class _Usage:
    """CPU time of processes with their children, between two moments."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before: dict[str, float] = {}
        self._began_s = 0.0
        self.cores: dict[str, float] = {}

    def begin(self) -> None:
        if not self._before:
            self._before, self._began_s = self._seconds(), time.monotonic()

    def end(self) -> None:
        passed_s = time.monotonic() - self._began_s
        now = self._seconds()
        self.cores = {k: (now[k] - before) / passed_s for k, before in self._before.items()}

    def _seconds(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, pid in self._pids.items():
            first = psutil.Process(pid)
            times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
            found[name] = sum(each.user + each.system for each in times)
        return found


def _plants(place: Path, number: int) -> list[Path]:
    content = yaml.safe_load(RIG.read_text(encoding="utf-8"))
    content["prefix"] = PREFIX
    paths: list[Path] = []
    for n in range(number):
        content["address"]["asset"] = f"pump-{n}"
        paths.append(place / f"pump-{n}.yaml")
        paths[-1].write_text(yaml.safe_dump(content), encoding="utf-8")
    return paths


def _take_in(model_dir: Path, data_dir: Path) -> None:
    """Put the model where the live process finds it as the newest version of the plants."""
    target = Settings(data_dir=data_dir).models_dir / PREFIX / model_dir.name
    shutil.copytree(model_dir, target)
    manifest = load_manifest(target).model_copy(update={"name": PREFIX})
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")


@contextlib.contextmanager
def _live(
    place: Path, plants: list[Path], kafka: Settings, server: TritonServer, inference: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the real live process, once it says that it is ready."""
    health = f"127.0.0.1:{_free_port()}"
    environment = os.environ | {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": kafka.kafka_bootstrap,
        "FUSION_DATA_DIR": str(kafka.data_dir),
        "FUSION_INFERENCE": inference,
        "FUSION_TRITON_ADDRESS": server.access.address,
        "FUSION_TRITON_REPOSITORY": str(server.repository),
        "FUSION_HEALTH_ADDRESS": health,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "flows.cli", "live", *map(str, plants)]
    with (place / "live.log").open("wb") as log:
        live = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _await_ready(f"http://{health}/health/live", live, place / "live.log")
        yield live
    finally:
        live.terminate()
        live.wait(timeout=60)


def _await_ready(url: str, live: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_PATIENCE_S
    while time.monotonic() < deadline_s:
        if live.poll() is not None:
            raise RuntimeError(f"the live process must run: {log.read_text(errors='replace')}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"the live process must be ready in {READY_PATIENCE_S:g} s; see its log")


@contextlib.contextmanager
def serve_triton(place: Path) -> Iterator[TritonServer]:
    """Yield a real Triton of its own, with an empty repository."""
    home = ROOT / ".services" / "triton"
    server = TritonServer(home, place / "repository", place / "triton", _free_port(), _free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
