"""What is there: partitions, streams, versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from connectors.delta_lake.rewriting import WHAT_KEY
from connectors.delta_lake.tables import DataFile, data_files, last_stored, open_table
from fusion.errors import InputError
from fusion.upkeep import LakeVersion, PartitionHolding, TopicHolding


def holding(root: Path, topic: str) -> TopicHolding:
    """Return what the lake holds of ``topic`` now."""
    table = open_table(root, topic)
    files = with_times(root / topic, data_files(table))
    return TopicHolding(
        topic,
        table.version(),
        tuple(
            _partition(partition, last + 1, [f for f in files if f.partition == partition])
            for partition, last in last_stored(table, topic).items()
        ),
    )


def streams(root: Path, topic: str) -> dict[str, int]:
    """Return the number of records per stream; those that name none count as ``""``."""
    counts: dict[str, int] = {}
    for file in data_files(open_table(root, topic)):
        frame = pl.read_parquet(root / topic / file.path, columns=["stream"])
        for stream, count in frame["stream"].fill_null("").value_counts().iter_rows():
            counts[stream] = counts.get(stream, 0) + count
    return dict(sorted(counts.items()))


def versions(root: Path, topic: str, last: int) -> list[LakeVersion]:
    """Return the ``last`` versions of ``topic``, newest first."""
    return [
        LakeVersion(
            version=commit["version"],
            t_ns=commit["timestamp"] * 1_000_000,
            what=_what(commit),
            num_records=_num_records(root, topic, commit["version"]),
        )
        for commit in open_table(root, topic).history(last)
    ]


def with_times(folder: Path, files: Sequence[DataFile]) -> list[DataFile]:
    """Return ``files`` with their times, read from the files themselves where the log has none."""
    return [file if file.t_first_ns is not None else _timed(folder, file) for file in files]


def oldest_ns(file: DataFile) -> int:
    """Return the oldest time at the broker of the records of a file :func:`with_times`."""
    assert file.t_first_ns is not None
    return file.t_first_ns


def newest_ns(file: DataFile) -> int:
    """Return the newest time at the broker of the records of a file :func:`with_times`."""
    assert file.t_last_ns is not None
    return file.t_last_ns


def num_older(folder: Path, file: DataFile, before_ns: int) -> int:
    """Return the number of records of ``file`` that came to the broker before ``before_ns``."""
    times = pl.read_parquet(folder / file.path, columns=["t_broker_ns"])["t_broker_ns"]
    return int((times < before_ns).sum())


def _timed(folder: Path, file: DataFile) -> DataFile:
    times = pl.read_parquet(folder / file.path, columns=["t_broker_ns"])["t_broker_ns"]
    return dataclasses.replace(file, t_first_ns=times.min(), t_last_ns=times.max())


def _partition(partition: int, next_offset: int, files: Sequence[DataFile]) -> PartitionHolding:
    return PartitionHolding(
        partition=partition,
        num_records=sum(file.num_records for file in files),
        num_files=len(files),
        num_bytes=sum(file.num_bytes for file in files),
        first_offset=min((file.first_offset for file in files), default=None),
        last_offset=max((file.last_offset for file in files), default=None),
        next_offset=next_offset,
        t_first_ns=min(map(oldest_ns, files), default=None),
        t_last_ns=max(map(newest_ns, files), default=None),
    )


def _what(commit: Mapping[str, Any]) -> str:
    """Return what a commit did, in words."""
    if (said := commit.get(WHAT_KEY)) is not None:
        return str(said)
    operation = str(commit.get("operation", "unknown"))
    metrics = commit.get("operationMetrics") or {}
    if operation == "WRITE" and "num_added_rows" in metrics:
        return f"{metrics['num_added_rows']} records appended"
    if operation == "SET TBLPROPERTIES":
        return "properties set: records may expire"
    if operation == "VACUUM END" and "numDeletedFiles" in metrics:
        return f"vacuum: {metrics['numDeletedFiles']} files removed"
    return operation.lower()


def _num_records(root: Path, topic: str, version: int) -> int | None:
    """Return how many records the version holds; None when it cannot be read any more."""
    try:
        files = data_files(open_table(root, topic, version))
    except InputError:
        return None
    is_whole = all((root / topic / file.path).exists() for file in files)
    return sum(file.num_records for file in files) if is_whole else None
