"""``make bench-storage``: bytes on the broker and in the lake, and what storing costs the broker.

    python -m benchmarks.storage --scale 0.2

Every workload of ``bench-stream`` is published as the product's senders do, to a real Apache Kafka
with one copy, then ingested into a Delta lake. Disk use is what the files have; the broker's CPU
time is that of its process while the records are published.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.broker import create_topics, own_kafka, publish
from benchmarks.machine import as_markdown, describe
from benchmarks.stream.workloads import Workload, messages, workloads
from flows import wiring
from flows.ingest import ingest_once
from flows.settings import Settings

ROOT = Path(__file__).parents[2]
CPU_OF_US = 1e6


@dataclass(frozen=True, slots=True)
class Stored:
    """One workload; bytes and microseconds are for a record."""

    workload: str
    title: str
    num_records: int
    sent_bytes: float
    broker_bytes: float
    lake_bytes: float
    broker_cpu_us: float
    sender_cpu_us: float
    records_per_s: float


def main() -> None:
    """Measure, then write the page and the figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.2, help="length of the workloads")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "storage.md")
    asked = parser.parse_args()
    machine = describe()
    found = list(run(asked.scale))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(as_page(machine, found), encoding="utf-8")
    rows = {"machine": machine, "rows": [asdict(each) for each in found]}
    asked.out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"written to {asked.out}")


def run(scale: float) -> Iterator[Stored]:
    """Yield what every workload takes, after one that only warms the broker up."""
    with own_kafka() as settings:
        warm_up, *_ = workloads(scale)
        create_topics(settings, ["warm-up"])
        publish(settings, (replace(m, topic="warm-up") for _, m in messages(warm_up)))
        for workload in workloads(scale):
            stored = measure(settings, workload)
            print(f"{workload.name:16} {stored}", flush=True)
            yield stored


def measure(settings: Settings, workload: Workload) -> Stored:
    """Publish ``workload``, ingest it, and return what both take."""
    topics = list(workload.plant.sense_topics)
    create_topics(settings, topics)
    sent = [message for _, message in messages(workload)]
    broker, own = _broker(settings), psutil.Process()
    before, own_before, began_s = _cpu_s(broker), _cpu_s(own), time.perf_counter()
    num_records, num_bytes = len(sent), publish(settings, sent)
    took_s = time.perf_counter() - began_s
    cpu_s, own_cpu_s = _cpu_s(broker) - before, _cpu_s(own) - own_before
    with contextlib.closing(wiring.open_source(settings, topics, "storage")) as source:
        report = ingest_once(
            source, wiring.open_lake(settings), clock=wiring.open_clock(), max_records=10_000_000
        )
    assert report.is_complete, report
    assert report.num_stored == num_records, (report, num_records)
    logs = [
        log
        for topic in topics
        for log in (settings.data_dir.parent / "kafka").rglob(f"{topic}-0/*.log")
    ]
    tables = [Path(settings.lake_uri) / topic for topic in topics]
    return Stored(
        workload=workload.name,
        title=workload.title,
        num_records=num_records,
        sent_bytes=num_bytes / num_records,
        broker_bytes=sum(log.stat().st_size for log in logs) / num_records,
        lake_bytes=sum(_bytes_below(table) for table in tables) / num_records,
        broker_cpu_us=cpu_s / num_records * CPU_OF_US,
        sender_cpu_us=own_cpu_s / num_records * CPU_OF_US,
        records_per_s=num_records / took_s,
    )


def as_page(machine: dict[str, Any], found: list[Stored]) -> str:
    """Return the page in Markdown."""
    rows = "\n".join(
        f"| {each.workload} | {each.num_records:,} | {each.sent_bytes:,.0f} | "
        f"{each.broker_bytes:,.0f} | {each.lake_bytes:,.0f} | {each.broker_cpu_us:.1f} | "
        f"{each.records_per_s:,.0f} |"
        for each in found
    )
    titles = "; ".join(f"*{each.workload}*: {each.title}" for each in found)
    return f"""# What a record costs to keep

Written by `make bench-storage`; the figures are in [storage.json](storage.json). What is sent is
simulated. A real Apache Kafka with one copy of everything, on the same cores as the sender; the
lake is as `fusion ingest` leaves it, before anything is compacted.

{as_markdown(machine)}

| workload | records | bytes sent | on the broker | in the lake | broker CPU µs | records/s sent |
|---|---|---|---|---|---|---|
{rows}

{titles}.

Bytes and microseconds are for a record. *Bytes sent* are of the value alone; on the broker and in
the lake are key, headers and framing too, after compression. *Records/s sent* is one sender
with records that were made before.
"""


def _broker(settings: Settings) -> psutil.Process:
    port = int(settings.kafka_bootstrap.rpartition(":")[2])
    listening = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN
    ]
    assert listening[0] is not None, "the broker's process belongs to this user"
    return psutil.Process(listening[0])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
