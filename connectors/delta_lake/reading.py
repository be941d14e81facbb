"""From data files to records, one file of a partition at a time."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from connectors.delta_lake.tables import DataFile, data_files, must_give
from fusion.errors import InputError
from fusion.schema import Record, TopicPartition

_Row = tuple[int, str, bytes, str, int]
NO_END = 2**63 - 1
_DAY_NS = 86_400 * 10**9
_RECORD = ["offset", "key", "value", "headers", "t_broker_ns"]


def files_to_read(table: DeltaTable, folder: Path) -> dict[int, list[DataFile]]:
    """Return the data files of the version of ``table``, per partition.

    Raises:
        InputError: Some are gone.
    """
    by_partition: dict[int, list[DataFile]] = {}
    for file in data_files(table):
        if not (folder / file.path).exists():
            raise InputError(
                f"every file of {folder.name}@{table.version()} must be there, but {file.path} is "
                "gone: a vacuum removes what only old versions need, unless a model or --keep "
                "names them; read a younger version (`fusion lake versions` shows which)"
            )
        by_partition.setdefault(file.partition, []).append(file)
    return by_partition


def read_partition(
    name: TopicPartition,
    files: Sequence[DataFile],
    folder: Path,
    *,
    start: int = 0,
    stop: int = NO_END,
) -> Iterator[Record]:
    """Yield the records of ``files`` in offset order, from ``start`` on and below ``stop``.

    Files that overlap are merged, and only these are in memory together: other programs' compaction
    writes such files.
    """
    waiting: list[tuple[int, int, _Row, Iterator[_Row]]] = []
    holding = [file for file in files if file.last_offset >= start and file.first_offset < stop]
    for number, file in enumerate(holding):
        for row in _rows_before(file.first_offset, waiting):
            yield _record(name, row)
        rows = _rows(folder, file, start, stop)
        if (first := next(rows, None)) is not None:
            heapq.heappush(waiting, (first[0], number, first, rows))
    for row in _rows_before(None, waiting):
        yield _record(name, row)


def first_offset_at(files: Sequence[DataFile], folder: Path, t_event_ns: int) -> int:
    """Return the first offset of ``files`` whose event time is ``t_event_ns`` or later.

    The offset after the last one where all are earlier. A clock that is a day ahead of the broker
    is not believed.
    """
    is_later = (pl.col("t_event_ns") >= t_event_ns) & (
        pl.col("t_event_ns") - pl.col("t_broker_ns") < _DAY_NS
    )
    for file in files:
        with must_give(folder.name):
            later = (
                pl.scan_parquet(folder / file.path)
                .filter(is_later)
                .select(pl.col("offset").min())
                .collect()
                .item()
            )
        if later is not None:
            return int(later)
    return max(file.last_offset for file in files) + 1


def read_headers(folder: Path, path: str) -> Iterator[Mapping[str, str]]:
    """Yield the headers of the records of one file."""
    with must_give(folder.name):
        frame = pl.read_parquet(folder / path, columns=["headers"])
    yield from map(json.loads, frame["headers"])


def _rows_before(
    offset: int | None, waiting: list[tuple[int, int, _Row, Iterator[_Row]]]
) -> Iterator[_Row]:
    while waiting and (offset is None or waiting[0][0] < offset):
        _, number, row, rows = waiting[0]
        yield row
        following = next(rows, None)
        if following is None:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (following[0], number, following, rows))


def _rows(folder: Path, file: DataFile, start: int, stop: int) -> Iterator[_Row]:
    with must_give(folder.name):
        frame = pl.read_parquet(folder / file.path, columns=_RECORD)
    wanted = (pl.col("offset") >= start) & (pl.col("offset") < stop)
    yield from frame.filter(wanted).sort("offset").iter_rows()


def _record(name: TopicPartition, row: _Row) -> Record:
    offset, key, value, headers, t_broker_ns = row
    return Record(*name, offset, key, value, json.loads(headers), t_broker_ns)
