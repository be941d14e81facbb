"""What the tables look like: columns, properties, names of progress, the data files of a version.

Columns: topic, partition, offset, key, stream, seq, epoch, t_event_ns, t_broker_ns, headers (JSON),
value. The columns between key and t_broker_ns repeat headers, so that queries need not parse them;
they are null where a record does not carry them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable, Field, Schema, WriterProperties
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from fusion.errors import InputError, LakeUnavailableError
from fusion.schema import Record

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}")
COLUMNS = {
    "topic": pl.String,
    "partition": pl.Int32,
    "offset": pl.Int64,
    "key": pl.String,
    "stream": pl.String,
    "seq": pl.Int64,
    "epoch": pl.String,
    "t_event_ns": pl.Int64,
    "t_broker_ns": pl.Int64,
    "headers": pl.String,
    "value": pl.Binary,
}
PARTITION_BY = ["partition"]
_DELTA_TYPES = {pl.String: "string", pl.Int32: "integer", pl.Int64: "long", pl.Binary: "binary"}
SCHEMA = Schema([Field(n, PrimitiveType(_DELTA_TYPES[kind])) for n, kind in COLUMNS.items()])
STATISTICS = ("offset", "t_event_ns", "t_broker_ns")
"""Columns whose least and largest value the log keeps per file; of payloads they would swell it."""
_TABLE_PROPERTIES: dict[str, str | None] = {
    # Holds until records are to expire.
    "delta.appendOnly": "true",
    "delta.dataSkippingStatsColumns": ",".join(STATISTICS),
    # A model's data version must stay readable for as long as the model is: about 100 years.
    "delta.logRetentionDuration": "interval 36500 days",
}
ZSTD_LEVEL = 1
WRITER = WriterProperties(compression="ZSTD", compression_level=ZSTD_LEVEL)
NUM_PARTITIONS = "partitions"
"""Progress beside that of the partitions: how many there have been, when none of a file is left."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file of a version; times are None where the log does not say them."""

    path: str
    """Below the table's folder."""
    partition: int
    num_bytes: int
    num_records: int
    first_offset: int
    last_offset: int
    t_first_ns: int | None
    t_last_ns: int | None


def topics_in(root: Path) -> list[str]:
    """Return the topics of the lake at ``root``, in order."""
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if DeltaTable.is_deltatable(str(folder)))


def create_or_open(root: Path, topic: str) -> DeltaTable:
    """Return the table of ``topic``, which is there afterwards."""
    if not _TOPIC_NAME.fullmatch(topic):
        raise InputError(
            f"a topic must be letters, digits, '.', '_' and '-', got {topic!r}; rename it"
        )
    return DeltaTable.create(
        str(root / topic),
        SCHEMA,
        mode="ignore",
        partition_by=PARTITION_BY,
        configuration=_TABLE_PROPERTIES,
    )


def open_table(root: Path, topic: str, version: int | None = None) -> DeltaTable:
    """Return the table of ``topic`` as it is now, or was at ``version``.

    Raises:
        LakeUnavailableError: It cannot be read now.
        InputError: It has no such version.
    """
    try:
        return DeltaTable(str(root / topic), version=version)
    except (DeltaError, OSError) as failed:
        if version is None:
            raise LakeUnavailableError(
                f"the lake must give its table {topic!r}, but: {failed}; look at the disk"
            ) from failed
        raise InputError(
            f"the lake must hold {topic}@{version}, but it cannot be read: {failed}; "
            "point to the lake that the version was taken from"
        ) from failed


@contextlib.contextmanager
def must_give(topic: str) -> Iterator[None]:
    """Turn failures of reading the table of ``topic`` into ours."""
    try:
        yield
    except (DeltaError, OSError, pl.exceptions.PolarsError) as failed:
        raise LakeUnavailableError(
            f"the lake must give what it holds of {topic!r}, but: {failed}; look at the disk, "
            "and try again"
        ) from failed


def version_at(root: Path, topic: str, t_ns: int) -> int:
    """Return the version of ``topic`` that was the newest at ``t_ns``; 0, which is empty, before.

    Goes by the times of the log's files.
    """
    table = open_table(root, topic)
    moment = datetime.datetime.fromtimestamp(t_ns / 1e9, datetime.UTC)
    with must_give(topic):
        table.load_as_version(moment)
        return table.version()


def transaction(topic: str, partition: int) -> str:
    """Return the name of the progress of one partition: the last offset that was stored."""
    return f"{topic}-{partition}"


def last_stored(table: DeltaTable, topic: str) -> dict[int, int]:
    """Return the last offset that was ever stored, per partition."""
    num_partitions = table.transaction_version(NUM_PARTITIONS) or 0
    there = {int(each["partition"]) for each in table.partitions()}
    found = {
        partition: table.transaction_version(transaction(topic, partition))
        for partition in sorted(there.union(range(num_partitions)))
    }
    return {partition: last for partition, last in found.items() if last is not None}


def data_files(table: DeltaTable) -> list[DataFile]:
    """Return the data files of the version of ``table``, by partition and first offset."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.is_empty():
        return []
    named = {
        "path": "path",
        "partition": "partition.partition",
        "num_bytes": "size_bytes",
        "num_records": "num_records",
        "first_offset": "min.offset",
        "last_offset": "max.offset",
        # Lakes of earlier versions have no statistics of them.
        "t_first_ns": "min.t_broker_ns",
        "t_last_ns": "max.t_broker_ns",
    }
    columns = [
        (pl.col(source) if source in actions.columns else pl.lit(None)).alias(name)
        for name, source in named.items()
    ]
    rows = actions.select(columns).sort("partition", "first_offset").iter_rows(named=True)
    return [DataFile(**row) for row in rows]


def to_frame(records: Sequence[Record]) -> pl.DataFrame:
    """Return ``records`` as rows of a table."""
    headers = [record.headers for record in records]
    frame = pl.DataFrame(
        {
            "topic": [record.topic for record in records],
            "partition": [record.partition for record in records],
            "offset": [record.offset for record in records],
            "key": [_text(record.key) for record in records],
            "stream": [_last_level(_text(each.get("ce_subject"))) for each in headers],
            "seq": [_text(each.get("seq")) for each in headers],
            "epoch": [_text(each.get("epoch")) for each in headers],
            "t_event_ns": [_text(each.get("ce_time")) for each in headers],
            "t_broker_ns": [record.t_broker_ns for record in records],
            "headers": [json.dumps(dict(each)) for each in headers],
            "value": [record.value for record in records],
        },
        schema=COLUMNS | {"seq": pl.String, "t_event_ns": pl.String},
    )
    # A poison record is kept too: what its headers do not say properly is null, not an error.
    return frame.with_columns(
        pl.col("seq").cast(pl.Int64, strict=False),
        pl.col("t_event_ns")
        .str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False)
        .dt.timestamp("ns"),
    )


def _text(text: str | None) -> str | None:
    """Return ``text`` with a mark for every byte that was no UTF-8; the JSON keeps the byte."""
    return None if text is None else text.encode(errors="replace").decode()


def _last_level(subject: str | None) -> str | None:
    return None if subject is None else subject.rpartition("/")[2]
