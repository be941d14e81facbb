"""What one process pays for more plants: CPU time for a tick, memory after long running."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil

from benchmarks.broker import ROOT, create_topics, publish
from benchmarks.stream.chain import open_chain
from benchmarks.stream.workloads import Workload, messages, mixed, retarget
from flows.settings import Settings
from fusion.plant import Plant, parse_plant
from fusion.schema import Message

WARM_UP = 0.25
"""The part of the records after which memory is called warm."""


def measure_scaling(
    settings: Settings, *, prefix: str, num_plants: int, seconds: float
) -> dict[str, Any]:
    """Return what one process pays to align ``seconds`` of ``num_plants`` mixed plants."""
    plants = [mixed(prefix, f"asset{n}") for n in range(num_plants)]
    create_topics(settings, plants[0].sense_topics)
    num_records = 0

    def counted() -> Iterator[Message]:
        nonlocal num_records
        for message in _of_all(plants, seconds):
            num_records += 1
            yield message

    publish(settings, counted())
    order = json.dumps(
        {
            "bootstrap": settings.kafka_bootstrap,
            "plants": [plant.model_dump_json() for plant in plants],
            "num_records": num_records,
        }
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream.scaling", order],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise RuntimeError(f"{num_plants} plants must be read, but: {done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Read the plants of the command line once, and tell what it cost."""
    order = json.loads(sys.argv[1])
    settings = Settings(broker="kafka", kafka_bootstrap=order["bootstrap"])
    plants = [parse_plant(text, origin="the order") for text in order["plants"]]
    process = psutil.Process()
    wanted, num_read, num_ticks = order["num_records"], 0, 0
    warm_mb: list[float] = []
    late_mb: list[float] = []
    with open_chain(settings, plants, group=f"bench-{uuid.uuid4().hex[:12]}") as chain:
        begun_mb = process.memory_info().rss / 1e6
        cpu_s, began_s = time.process_time(), time.perf_counter()
        while num_read < wanted:
            step = chain.step()
            num_read += len(step.records)
            num_ticks += len(step.closed)
            rss_mb = process.memory_info().rss / 1e6
            if WARM_UP <= num_read / wanted < 2 * WARM_UP:
                warm_mb.append(rss_mb)
            elif num_read / wanted >= 1 - WARM_UP:
                late_mb.append(rss_mb)
        cpu_s, seconds = time.process_time() - cpu_s, time.perf_counter() - began_s
    print(
        json.dumps(
            {
                "num_plants": len(plants),
                "num_records": num_read,
                "num_ticks": num_ticks,
                "seconds": seconds,
                "cpu_ms_per_tick": 1000 * cpu_s / num_ticks,
                "begun_mb": begun_mb,
                "warm_mb": sum(warm_mb) / len(warm_mb) if warm_mb else None,
                "late_mb": sum(late_mb) / len(late_mb),
            }
        )
    )


def _of_all(plants: list[Plant], seconds: float) -> Iterator[Message]:
    """Yield the same records for every plant, moment by moment."""
    for _, message in messages(Workload("scaling", "", plants[0], seconds)):
        for plant in plants:
            yield retarget(message, plant)


if __name__ == "__main__":
    main()
