"""The lake as Delta tables: one table per topic, one commit per append and topic.

Each commit carries one application transaction per broker partition, ``<topic>-<partition>``, whose
version is the last offset stored. Data and progress thus become visible together or not at all: a
process that dies anywhere, or a second writer, can neither lose nor double a record.

Columns: topic, partition, offset, key, stream, seq, epoch, t_event_ns, t_broker_ns, headers (JSON),
value. The columns between key and t_broker_ns repeat headers, so that queries need not parse them;
they are null where a record does not carry them.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from fusion.errors import InputError, LakeUnavailableError
from fusion.schema import Record, TopicPartition

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}")
_NO_TABLE = "none"
_NO_END = 2**63 - 1
_DAY_NS = 86_400 * 10**9
_COLUMNS = {
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
_DELTA_TYPES = {pl.String: "string", pl.Int32: "integer", pl.Int64: "long", pl.Binary: "binary"}
_SCHEMA = Schema([Field(n, PrimitiveType(_DELTA_TYPES[kind])) for n, kind in _COLUMNS.items()])
_TABLE_PROPERTIES: dict[str, str | None] = {
    "delta.appendOnly": "true",
    # Statistics of the payload bytes would only swell the log.
    "delta.dataSkippingStatsColumns": "offset,t_event_ns",
    # A model's data version must stay readable for as long as the model is: about 100 years.
    "delta.logRetentionDuration": "interval 36500 days",
}


class DeltaLake:
    """Implements :class:`fusion.ports.Lake` below ``uri``, a folder of the local disk.

    Example:
        >>> import tempfile
        >>> lake = DeltaLake(tempfile.mkdtemp())
        >>> sent = Record("rig.audio", 0, 7, "plant", b"payload", {}, t_broker_ns=1)
        >>> lake.append([sent]), lake.append([sent])
        (1, 0)
        >>> lake.next_offsets()
        {TopicPartition(topic='rig.audio', partition=0): 8}
        >>> lake.version(["rig.audio"])
        'rig.audio@1'
    """

    def __init__(self, uri: str | Path) -> None:
        self._root = Path(uri)

    def append(self, records: Sequence[Record]) -> int:
        """Store ``records`` that are not stored yet, and return how many were new.

        The records of one partition must come in offset order. Each topic is one commit.

        Raises:
            LakeUnavailableError: Another writer was faster, or the disk failed; call again.
        """
        by_topic: dict[str, list[Record]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        return sum(self._append_topic(topic, part) for topic, part in by_topic.items())

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset that is not stored yet."""
        offsets: dict[TopicPartition, int] = {}
        for topic in self._topics():
            table = self._open(topic)
            for partition in _partitions(table):
                last = table.transaction_version(_transaction(topic, partition))
                assert last is not None, "every commit carries its transactions"
                offsets[TopicPartition(topic, partition)] = last + 1
        return offsets

    def version(self, topics: Sequence[str]) -> str:
        """Return a name for what the lake holds of ``topics`` now, such as ``rig.audio@3``."""
        stored = set(self._topics())
        return ",".join(
            f"{topic}@{self._open(topic).version() if topic in stored else _NO_TABLE}"
            for topic in topics
        )

    def read(self, topics: Sequence[str], *, version: str | None = None) -> list[Record]:
        """Return the stored records of ``topics`` in (topic, partition, offset) order.

        Raises:
            InputError: ``version`` does not name one of ``topics``, or is not in the lake.
        """
        partitions = self._partition_readers(topics, version)
        return list(chain.from_iterable(partitions[name] for name in sorted(partitions)))

    def read_in_arrival_order(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
        stop: Mapping[TopicPartition, int] | None = None,
    ) -> Iterator[Record]:
        """Yield the stored records of ``topics`` as they came to the broker.

        Records of one partition come in offset order, from ``start`` on and below ``stop``. Holds
        one file of each partition in memory, however much the lake holds.

        Raises:
            InputError: ``version`` does not name one of ``topics``, or is not in the lake.
        """
        partitions = self._partition_readers(topics, version, start or {}, stop or {})
        readers = [partitions[name] for name in sorted(partitions)]
        return heapq.merge(*readers, key=lambda record: record.t_broker_ns)

    def num_records(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
    ) -> int:
        """Return about how many records of ``topics`` are stored from ``start`` on."""
        num = 0
        for name, table in self._partition_tables(topics, version):
            first = (start or {}).get(name, 0)
            files = _stored_files(table, name.partition).filter(pl.col("max.offset") >= first)
            ahead = (first - pl.col("min.offset")).clip(lower_bound=0)
            stored = (pl.col("num_records") - ahead).clip(lower_bound=0)
            num += int(files.select(stored.sum()).item())
        return num

    def offsets_at(
        self, topics: Sequence[str], t_event_ns: int, *, version: str | None = None
    ) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset whose event time is ``t_event_ns`` or later.

        The event time is the envelope's. The offset after the last one where all are earlier.
        """
        found: dict[TopicPartition, int] = {}
        for name, table in self._partition_tables(topics, version):
            files = _stored_files(table, name.partition)
            found[name] = int(files.select(pl.col("max.offset").max() + 1).item())
            for path in files.filter(pl.col("max.t_event_ns") >= t_event_ns)["path"]:
                later = (
                    pl.scan_parquet(self._root / name.topic / path)
                    .filter(pl.col("t_event_ns") >= t_event_ns)
                    # A clock that is a day ahead of the broker tells nothing: poison.
                    .filter(pl.col("t_event_ns") - pl.col("t_broker_ns") < _DAY_NS)
                    .select(pl.col("offset").min())
                    .collect()
                    .item()
                )
                if later is not None:
                    found[name] = int(later)
                    break
        return found

    def read_headers(self, topics: Sequence[str]) -> Iterator[Mapping[str, str]]:
        """Yield the headers of every stored record of ``topics``; no value is read."""
        stored = set(self._topics())
        for topic in (topic for topic in dict.fromkeys(topics) if topic in stored):
            table = self._open(topic)
            for partition in _partitions(table):
                for path in _files(table, partition):
                    frame = pl.read_parquet(self._root / topic / path, columns=["headers"])
                    yield from map(json.loads, frame["headers"])

    def _append_topic(self, topic: str, records: Sequence[Record]) -> int:
        try:
            # The table is opened before its progress is read: delta refuses the commit when
            # another writer has moved one of these transactions since.
            table = self._create_or_open(topic)
            new = _not_stored(records, table)
            if not new:
                return 0
            last = {record.partition: record.offset for record in new}
            write_deltalake(
                table,
                _to_frame(new),
                mode="append",
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                commit_properties=CommitProperties(
                    app_transactions=[
                        Transaction(_transaction(topic, partition), offset)
                        for partition, offset in last.items()
                    ]
                ),
            )
        except (DeltaError, OSError) as failed:
            raise LakeUnavailableError(
                f"the lake must take records of {topic!r}, but the commit failed: {failed}; "
                "nothing of this call was stored of that topic; append the same records again"
            ) from failed
        return len(new)

    def _partition_readers(
        self,
        topics: Sequence[str],
        version: str | None,
        start: Mapping[TopicPartition, int] = MappingProxyType({}),
        stop: Mapping[TopicPartition, int] = MappingProxyType({}),
    ) -> dict[TopicPartition, Iterator[Record]]:
        readers: dict[TopicPartition, Iterator[Record]] = {}
        for name, table in self._partition_tables(topics, version):
            offsets = (start.get(name, 0), stop.get(name, _NO_END))
            files = _files(table, name.partition, offsets)
            paths = [self._root / name.topic / path for path in files]
            readers[name] = _read_files(name, paths, offsets)
        return readers

    def _partition_tables(
        self, topics: Sequence[str], version: str | None
    ) -> Iterator[tuple[TopicPartition, DeltaTable]]:
        versions = _parse_version(self.version(topics) if version is None else version)
        for topic in dict.fromkeys(topics):
            if topic not in versions:
                raise InputError(
                    f"a lake version must name every topic to read, got {version!r} "
                    f"without {topic!r}; take the version from this lake and these topics"
                )
            if versions[topic] is None:
                continue
            table = self._open(topic, versions[topic])
            for partition in _partitions(table):
                yield TopicPartition(topic, partition), table

    def _topics(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(
            folder.name for folder in self._root.iterdir() if DeltaTable.is_deltatable(str(folder))
        )

    def _create_or_open(self, topic: str) -> DeltaTable:
        if not _TOPIC_NAME.fullmatch(topic):
            raise InputError(
                f"a topic must be letters, digits, '.', '_' and '-', got {topic!r}; rename it"
            )
        return DeltaTable.create(
            str(self._root / topic),
            _SCHEMA,
            mode="ignore",
            partition_by=["partition"],
            configuration=_TABLE_PROPERTIES,
        )

    def _open(self, topic: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(str(self._root / topic), version=version)
        except (DeltaError, OSError) as failed:
            if version is None:
                raise LakeUnavailableError(
                    f"the lake must give its table {topic!r}, but: {failed}; look at the disk"
                ) from failed
            raise InputError(
                f"the lake must hold {topic}@{version}, but it cannot be read: {failed}; "
                "point to the lake that the version was taken from"
            ) from failed


def _transaction(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"


def _not_stored(records: Sequence[Record], table: DeltaTable) -> list[Record]:
    """Return the records beyond what ``table`` holds of their partition."""
    new: list[Record] = []
    seen: dict[int, int] = {}
    stored: dict[int, int] = {}
    for record in records:
        partition = record.partition
        if partition not in seen:
            last = table.transaction_version(_transaction(record.topic, partition))
            stored[partition] = -1 if last is None else last
            seen[partition] = -1
        if record.offset <= seen[partition]:
            raise InputError(
                f"records of one partition must come in offset order, got {record.topic!r} "
                f"partition {partition} offset {record.offset} after {seen[partition]}; "
                "append them as they were polled"
            )
        seen[partition] = record.offset
        if record.offset > stored[partition]:
            new.append(record)
    return new


def _to_frame(records: Sequence[Record]) -> pl.DataFrame:
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
        schema=_COLUMNS | {"seq": pl.String, "t_event_ns": pl.String},
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


def _partitions(table: DeltaTable) -> list[int]:
    return sorted({int(each["partition"]) for each in table.partitions()})


def _stored_files(table: DeltaTable, partition: int) -> pl.DataFrame:
    """Return what the table says of the data files of ``partition``, in offset order."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    return actions.filter(pl.col("partition.partition") == partition).sort("min.offset")


def _files(table: DeltaTable, partition: int, offsets: tuple[int, int] = (0, _NO_END)) -> list[str]:
    """Return the data files that hold ``offsets`` (from, below), relative to the table."""
    holds = (pl.col("max.offset") >= offsets[0]) & (pl.col("min.offset") < offsets[1])
    return _stored_files(table, partition).filter(holds)["path"].to_list()


def _read_files(
    name: TopicPartition, paths: Sequence[Path], offsets: tuple[int, int]
) -> Iterator[Record]:
    for path in paths:
        columns = ["offset", "key", "value", "headers", "t_broker_ns"]
        frame = pl.read_parquet(path, columns=columns).sort("offset")
        wanted = (pl.col("offset") >= offsets[0]) & (pl.col("offset") < offsets[1])
        for offset, key, value, headers, t_broker_ns in frame.filter(wanted).iter_rows():
            said: Mapping[str, str] = json.loads(headers)
            yield Record(*name, offset, key, value, said, t_broker_ns)


def _parse_version(version: str) -> dict[str, int | None]:
    versions: dict[str, int | None] = {}
    for part in version.split(",") if version else []:
        topic, at, number = part.rpartition("@")
        if not at or not (number == _NO_TABLE or number.isdecimal()):
            raise InputError(
                f"a lake version must look like 'rig.audio@3,rig.video@none', got {version!r}; "
                "copy it from the model's manifest"
            )
        versions[topic] = None if number == _NO_TABLE else int(number)
    return versions
