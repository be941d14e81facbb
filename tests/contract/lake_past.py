"""A lake with a past: what every test of its upkeep does to it.

Ages are real ones to Delta: the files' own times and those in the log are moved into the past.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from deltalake import DeltaTable

from connectors.delta_lake import DeltaLake
from fusion.schema import Record

TOPIC = "rig.video"
HOUR_NS = 3600 * 10**9
NUM_PARTITIONS = 2


def records_of(
    start: int, stop: int, *, partition: int = 0, t_ns: int = 0, size: int = 8
) -> list[Record]:
    return [
        Record(TOPIC, partition, offset, "k", os.urandom(size), {"seq": str(offset)}, t_ns + offset)
        for offset in range(start, stop)
    ]


def fill(folder: Path, num_appends: int = 8) -> list[Record]:
    """Append five records to each partition, several times; return them as the lake reads them."""
    sent: list[Record] = []
    for number in range(num_appends):
        for partition in range(NUM_PARTITIONS):
            part = records_of(number * 5, number * 5 + 5, partition=partition)
            DeltaLake(folder).append(part)
            sent += part
    return sorted(sent, key=lambda record: (record.partition, record.offset))


def age(folder: Path, hours: int) -> None:
    """Move everything that the table knows of time into the past, and forget what Delta forgets."""
    for path in folder.rglob("*.json"):
        moved = re.sub(
            r'("(?:timestamp|deletionTimestamp|modificationTime)":)(\d+)',
            lambda found: f"{found[1]}{int(found[2]) - hours * 3_600_000}",
            path.read_text(),
        )
        times = path.stat()
        path.write_text(moved)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for path in folder.rglob("*"):
        if path.is_file():
            aged_ns = path.stat().st_mtime_ns - hours * HOUR_NS
            os.utime(path, ns=(aged_ns, aged_ns))
    for path in [*folder.rglob("*.checkpoint.parquet"), *folder.rglob("_last_checkpoint")]:
        path.unlink()
    checkpoint(folder)


def checkpoint(folder: Path) -> None:
    """A checkpoint of the log leaves out files that were removed more than a week ago."""
    table = DeltaTable(str(folder))
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    table.create_checkpoint()
    table.cleanup_metadata()
    assert all(path.stat().st_mtime_ns == t_ns for path, t_ns in times.items())


def newest_version(folder: Path) -> int:
    return int(DeltaLake(folder).version([TOPIC]).rpartition("@")[2])


def read_version(folder: Path, version: int | None = None) -> list[Record]:
    named = None if version is None else f"{TOPIC}@{version}"
    return DeltaLake(folder).read([TOPIC], version=named)
