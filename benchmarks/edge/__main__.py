"""``python -m benchmarks.edge``: how much an edge machine reads; docs/benchmarks/edge.md, .json."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks import machine
from benchmarks.broker import ROOT, create_topics, own_kafka
from benchmarks.edge.arrivals import Arrivals, count_senses, count_values
from benchmarks.edge.page import page
from benchmarks.edge.parts import NAMES, Part, make_part
from benchmarks.edge.profile import profile
from benchmarks.edge.watch import Usage, cpu_s, device_pids
from flows.settings import Settings
from fusion.plant import Plant

START_S = 300.0
WARM_UP_S, SETTLE_S = 6, 3
SAMPLE_S = 5
PROFILE_S = 8


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    file = options.out / "edge.json"
    parts: dict[str, Any] = {}
    if options.only and file.is_file():
        parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    said: dict[str, Any] = {"machine": machine.describe(), "parts": parts}
    for name in options.only or NAMES:
        print(f"{name}: {options.seconds} s", flush=True)
        measured_on = machine.describe()
        with own_kafka() as settings, tempfile.TemporaryDirectory() as folder:
            parts[name] = _measure(name, settings, Path(folder), options)
        parts[name]["machine"] = measured_on
        # (A part that breaks off takes none of those before it along.)
        options.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        (options.out / "edge.md").write_text(page(said), encoding="utf-8")
    print(f"{options.out / 'edge.md'} is written")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge")
    parser.add_argument("--seconds", type=int, default=30, help="of each part")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="the others stay as they are")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser.parse_args()


def _measure(
    name: str, settings: Settings, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    part = make_part(name, folder)
    plant = Plant.model_validate(part.plant())
    plant_file = folder / "plant.yaml"
    plant_file.write_text(yaml.safe_dump(part.plant()), encoding="utf-8")
    create_topics(settings, plant.sense_topics, broker_time=True)
    part.start()
    try:
        with _edge(plant_file, plant, settings, folder) as edge:
            return _loaded(part, plant, settings, edge, options.seconds)
    finally:
        part.stop()


def _loaded(
    part: Part, plant: Plant, settings: Settings, edge: int, seconds: int
) -> dict[str, Any]:
    """Return the figures of one part: a window of ``seconds``, then a profile outside of it."""
    load = _Load(part)
    load.go_on(WARM_UP_S)
    groups = {"edge": [edge], "peers": part.pids(), "broker": [_kafka_pid(settings)]}
    first, begin_ns = load.number, time.time_ns()
    began_s = time.monotonic()
    before = {group: Usage.of(pids) for group, pids in groups.items()}
    cpu_s_before = {pid: cpu_s(pid) for pid in device_pids(edge)}
    highest = {group: usage.memory_mb for group, usage in before.items()}
    for _ in range(seconds // SAMPLE_S):
        load.go_on(SAMPLE_S)
        for group, pids in groups.items():
            highest[group] = max(highest[group], Usage.of(pids).memory_mb)
    after = {group: Usage.of(pids) for group, pids in groups.items()}
    used = {pid: cpu_s(pid) - cpu_s_before[pid] for pid in cpu_s_before}
    wall_s, last, end_ns = time.monotonic() - began_s, load.number, time.time_ns()
    busiest = max(used, key=used.__getitem__)
    with load.beside():
        profiled = profile(busiest, seconds=PROFILE_S)
    time.sleep(SETTLE_S)
    if load.has_tags:
        arrived = count_values(settings, plant, range(first, last))
        num_sent = round(part.per_s) * (last - first)
    else:
        arrived = count_senses(settings, plant, begin_ns, end_ns)
        num_sent = round(part.per_s * (end_ns - begin_ns) / 1e9)
    costs: dict[str, dict[str, float]] = {
        group: {
            "cores": round((after[group].cpu_s - before[group].cpu_s) / wall_s, 3),
            "memory_mb": round(highest[group]),
            "num_processes": after[group].num_processes,
        }
        for group in groups
    }
    costs["edge"]["busiest_cores"] = round(used[busiest] / wall_s, 3)
    return {
        "title": part.title,
        "unit": part.unit,
        "wall_s": round(wall_s, 1),
        "num_sent": num_sent,
        **_arrived(arrived),
        "rounds_late_s": round(load.latest_s, 2),
        "used": costs,
        "profile": profiled,
    }


def _arrived(arrived: Arrivals) -> dict[str, Any]:
    told = asdict(arrived)
    del told["delays_s"]
    return told | {"delay_ms": {str(p): round(arrived.delay_ms(p), 1) for p in (50, 99)}}


class _Load:
    """Lets the tags of a part speak once a second, each time the next number."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.number = 1
        self.has_tags = True
        self.latest_s = 0.0
        """By how much the peers were late with a second at most."""

    def go_on(self, seconds: int) -> None:
        """Speak for ``seconds``, then return."""
        began_s = time.monotonic()
        for second in range(seconds):
            self.has_tags = self._part.say(self.number)
            self.number += 1
            left_s = began_s + second + 1 - time.monotonic()
            self.latest_s = max(self.latest_s, -left_s)
            time.sleep(max(0.0, left_s))

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Speak on while something else is done, and a moment longer."""
        thread = threading.Thread(target=self.go_on, args=(PROFILE_S,))
        thread.start()
        try:
            yield
        finally:
            thread.join()


@contextlib.contextmanager
def _edge(plant_file: Path, plant: Plant, settings: Settings, folder: Path) -> Iterator[int]:
    """Yield the process of ``fusion edge run`` when every device is connected."""
    environment = os.environ | {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FUSION_DATA_DIR": str(settings.data_dir),
        "COLUMNS": "500",
    }
    log = folder / "edge.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "flows.cli", "edge", "run", str(plant_file)]
        edge = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    try:
        t_end_s = time.monotonic() + START_S
        while any(f"{device.name} connected" not in log.read_text() for device in plant.devices):
            if edge.poll() is not None or time.monotonic() > t_end_s:
                raise RuntimeError(f"every device must connect: {log.read_text()[-3_000:]}")
            time.sleep(0.5)
        yield edge.pid
    finally:
        edge.send_signal(signal.SIGTERM)
        edge.wait(60)
        print(log.read_text()[-2_000:], file=sys.stderr)


def _kafka_pid(settings: Settings) -> int:
    return int((settings.data_dir.parent / "kafka" / "kafka.pid").read_text())


if __name__ == "__main__":
    main()
