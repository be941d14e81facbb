"""How long a tick takes from the broker to the hand, in real time.

The clock starts when the broker stamps the record that moves the last stream's watermark over the
tick's end, and stops when the closed tick is returned. Broker and reader share one machine and so
one clock; the broker's stamps are cut to whole milliseconds, which can only lengthen the result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.broker import ROOT, create_topics
from benchmarks.stream.chain import Chain, open_chain
from benchmarks.stream.workloads import CHUNK_S, mixed
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import Record

WARM_UP_S = 10.0
"""The first ticks import decoders and open the connection's way; they are left out."""
GRACE_S = 3.0
TOLD_AFTER_S = {"telemetry": 0.0, "audio": CHUNK_S, "video": 0.0}
"""How far a record reaches beyond the time in its envelope, by modality (one row a batch)."""


@dataclass(frozen=True)
class Heard:
    """One record: whose it is, up to when it tells, when the broker had it."""

    asset: str
    stream: str
    told_ns: int
    t_broker_ns: int


def measure_latency(settings: Settings, *, num_plants: int, seconds: float) -> dict[str, Any]:
    """Return the latencies of the ticks of ``num_plants`` mixed plants, sent in real time."""
    plants = [mixed(f"live{num_plants}", f"asset{n}") for n in range(num_plants)]
    create_topics(settings, plants[0].sense_topics, broker_time=True)
    order = json.dumps(
        {
            "bootstrap": settings.kafka_bootstrap,
            "plants": [plant.model_dump_json() for plant in plants],
            "seconds": seconds,
        }
    )
    module = "benchmarks.stream"
    with subprocess.Popen(
        [sys.executable, "-m", f"{module}.latency", order], cwd=ROOT, stdout=subprocess.PIPE
    ) as reader:
        subprocess.run([sys.executable, "-m", f"{module}.paced", order], cwd=ROOT, check=True)
        said, _ = reader.communicate(timeout=60)
    return json.loads(said.splitlines()[-1]) | {"num_plants": num_plants, "seconds": seconds}


def main() -> None:
    """Read the plants of the command line until they fall silent, and tell the latencies."""
    order = json.loads(sys.argv[1])
    settings = Settings(broker="kafka", kafka_bootstrap=order["bootstrap"])
    plants = [parse_plant(text, origin="the order") for text in order["plants"]]
    with open_chain(settings, plants, group=f"bench-{uuid.uuid4().hex[:12]}") as chain:
        heard, in_hand_ns, cpu_share = _listen(chain, plants[0])
    print(json.dumps(_summary(plants, heard, in_hand_ns) | {"cpu_share": cpu_share}))


def _listen(chain: Chain, plant: Plant) -> tuple[list[Heard], dict[tuple[str, int], int], float]:
    """Return every record, when each tick was in hand, and the share of one core that it took."""
    records: list[Record] = []
    in_hand_ns: dict[tuple[str, int], int] = {}
    cpu_s, began_s = time.process_time(), time.monotonic()
    last_s: float | None = None
    while last_s is None or time.monotonic() - last_s < GRACE_S:
        step = chain.step()
        now_ns = time.time_ns()
        in_hand_ns |= dict.fromkeys(step.closed, now_ns)
        if step.records:
            last_s = time.monotonic()
            # Without their values: nothing that is kept may slow down what is measured.
            records += [_without_value(record) for record in step.records]
    cpu_share = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    return [_heard(record) for record in records], in_hand_ns, cpu_share


def _without_value(record: Record) -> Record:
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        b"",
        record.headers,
        record.t_broker_ns,
    )


def _heard(record: Record) -> Heard:
    stamp = np.datetime64(record.headers["ce_time"].removesuffix("Z"), "ns")
    modality = record.topic.rpartition(".")[2]
    return Heard(
        asset=record.key,
        stream=record.headers["ce_subject"],
        told_ns=int(stamp.astype(np.int64)) + round(TOLD_AFTER_S[modality] * NANOSECONDS),
        t_broker_ns=record.t_broker_ns,
    )


def _summary(
    plants: list[Plant], heard: list[Heard], in_hand_ns: dict[tuple[str, int], int]
) -> dict[str, Any]:
    """Return the distribution of latencies in ms, worked out apart from the product's own code."""
    closes_ns: dict[tuple[str, int], int] = defaultdict(int)
    plant = plants[0]
    lateness_ns = round(plant.allowed_lateness_s * NANOSECONDS)
    next_tick: dict[str, int] = {}
    newest_ns: dict[str, int] = {}
    for each in heard:
        newest_ns[each.stream] = max(newest_ns.get(each.stream, 0), each.told_ns)
        frontier = (newest_ns[each.stream] - lateness_ns) // plant.tick_ns
        # The stream's watermark has now passed these ticks; the slowest stream closes them.
        for tick in range(next_tick.get(each.stream, frontier), frontier):
            key = (each.asset, tick)
            closes_ns[key] = max(closes_ns[key], each.t_broker_ns)
        next_tick[each.stream] = frontier
    start_ns = min(each.t_broker_ns for each in heard) + round(WARM_UP_S * NANOSECONDS)
    latencies_ms = [
        (t_ns - closes_ns[key]) / 1e6
        for key, t_ns in in_hand_ns.items()
        if key in closes_ns and closes_ns[key] >= start_ns
    ]
    p50, p90, p99 = np.quantile(latencies_ms, [0.5, 0.9, 0.99]).tolist()
    return {
        "num_ticks": len(latencies_ms),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": max(latencies_ms),
    }


if __name__ == "__main__":
    main()
