"""Commits that exchange data files: fewer and larger ones, or ones without the oldest records.

Delta's own OPTIMIZE is not used: with deltalake 1.6 two that run at once both commit and double
every record, and it joins files that are neighbours in the log, not by offset (ADR 12). Here each
commit moves one and the same transaction, so that of two at once Delta refuses one, and files are
joined with their neighbours by offset.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from connectors.delta_lake.tables import (
    COLUMNS,
    NUM_PARTITIONS,
    PARTITION_BY,
    SCHEMA,
    STATISTICS,
    ZSTD_LEVEL,
    DataFile,
    last_stored,
    must_give,
)
from fusion.errors import LakeUnavailableError

WHAT_KEY = "fusionOperation"
"""Of the commit's information: what was done, in words."""
MIN_RUN_FILES = 4
"""Fewer neighbours wait for others, unless they fill a file: or the newest would be rewritten each
time."""


@dataclass(frozen=True, slots=True)
class Written:
    """A data file that is on the disk and in no version yet."""

    path: str
    partition: int
    num_bytes: int
    statistics: str


def plan_runs(files: Sequence[DataFile], target_bytes: int) -> list[list[DataFile]]:
    """Return the runs of neighbours by offset, each to be written as one file.

    Example:
        >>> small = [DataFile(str(n), 0, 30, 1, n, n, None, None) for n in range(7)]
        >>> [[each.path for each in run] for run in plan_runs(small, target_bytes=100)]
        [['0', '1', '2'], ['3', '4', '5']]
    """
    runs: list[list[DataFile]] = [[]]
    for file in files:
        is_full = file.num_bytes * 2 > target_bytes
        has_room = sum(each.num_bytes for each in runs[-1]) + file.num_bytes <= target_bytes
        is_neighbour = not runs[-1] or runs[-1][-1].partition == file.partition
        if is_full or not has_room or not is_neighbour:
            runs.append([])
        if not is_full:
            runs[-1].append(file)
    return [run for run in runs if _is_worth(run, target_bytes)]


def join(folder: Path, run: Sequence[DataFile]) -> Written:
    """Write the records of ``run`` as one file in offset order."""
    with must_give(folder.name):
        frames = [pl.read_parquet(folder / file.path) for file in run]
        return _write(folder, run[0].partition, pl.concat(frames).sort("offset"))


def without_older(folder: Path, file: DataFile, before_ns: int) -> Written:
    """Write the records of ``file`` that came to the broker at ``before_ns`` or later."""
    with must_give(folder.name):
        frame = pl.read_parquet(folder / file.path)
        return _write(folder, file.partition, frame.filter(pl.col("t_broker_ns") >= before_ns))


def exchange(
    table: DeltaTable,
    topic: str,
    removed: Sequence[DataFile],
    added: Sequence[Written],
    *,
    is_data_changed: bool,
    what: str,
) -> None:
    """Commit one version in which ``added`` stand for ``removed``.

    ``table`` is as it was when the files were chosen: whatever upkeep was done since is seen.

    Raises:
        LakeUnavailableError: Other upkeep was faster; nothing is changed.
    """
    now_ms = time.time_ns() // 1_000_000
    with _first_or_again(topic):
        table.create_write_transaction(
            list(_actions(removed, added, now_ms, is_data_changed=is_data_changed)),
            "append",
            SCHEMA,
            PARTITION_BY,
            commit_properties=CommitProperties(
                custom_metadata={WHAT_KEY: what},
                app_transactions=[
                    # Moved by every exchange, so that Delta refuses the second of two at once;
                    # and says later which partitions there were, when one has no file left.
                    Transaction(NUM_PARTITIONS, max(last_stored(table, topic), default=-1) + 1),
                ],
            ),
        )


def allow_removal(table: DeltaTable, topic: str) -> None:
    """Let records of ``table`` be removed from now on: a lake that expires is not append-only."""
    if table.metadata().configuration.get("delta.appendOnly") == "true":
        with _first_or_again(topic):
            table.alter.set_table_properties({"delta.appendOnly": "false"})


@contextlib.contextmanager
def _first_or_again(topic: str) -> Iterator[None]:
    """Turn a commit that came second, or met a full disk, into ours."""
    try:
        yield
    except (DeltaError, OSError) as failed:
        raise LakeUnavailableError(
            f"upkeep of {topic!r} must be the only one while it commits, but: {failed}; nothing of "
            "this step was changed and nothing is lost; run it again"
        ) from failed


def _is_worth(run: Sequence[DataFile], target_bytes: int) -> bool:
    fills_a_file = sum(file.num_bytes for file in run) * 2 > target_bytes
    return len(run) >= (2 if fills_a_file else MIN_RUN_FILES)


def _write(folder: Path, partition: int, frame: pl.DataFrame) -> Written:
    path = f"partition={partition}/part-00000-{uuid4()}-c000.zstd.parquet"
    columns = [name for name in COLUMNS if name not in PARTITION_BY]
    frame.select(columns).write_parquet(
        folder / path, compression="zstd", compression_level=ZSTD_LEVEL
    )
    return Written(path, partition, (folder / path).stat().st_size, json.dumps(_statistics(frame)))


def _statistics(frame: pl.DataFrame) -> dict[str, object]:
    """Return what Delta's protocol calls per-file statistics; a column of nulls has no bounds."""
    known = [name for name in STATISTICS if frame[name].null_count() < frame.height]
    return {
        "numRecords": frame.height,
        "minValues": {name: frame[name].min() for name in known},
        "maxValues": {name: frame[name].max() for name in known},
        "nullCount": {name: frame[name].null_count() for name in STATISTICS},
    }


def _actions(
    removed: Sequence[DataFile], added: Sequence[Written], now_ms: int, *, is_data_changed: bool
) -> Iterator[AddAction | RemoveAction]:
    for old in removed:
        where: dict[str, str | None] = {"partition": str(old.partition)}
        yield RemoveAction(
            old.path, is_data_changed, now_ms, size=old.num_bytes, partition_values=where
        )
    for new in added:
        yield AddAction(
            new.path,
            new.num_bytes,
            {"partition": str(new.partition)},
            now_ms,
            is_data_changed,
            new.statistics,
        )
