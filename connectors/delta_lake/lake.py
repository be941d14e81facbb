"""The lake that records are appended to and read from.

Each commit carries one application transaction per broker partition, ``<topic>-<partition>``, whose
version is the last offset stored. Data and progress thus become visible together or not at all: a
process that dies anywhere, or a second writer, can neither lose nor double a record.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from connectors.delta_lake.reading import (
    NO_END,
    files_to_read,
    first_offset_at,
    read_headers,
    read_partition,
)
from connectors.delta_lake.tables import (
    WRITER,
    DataFile,
    create_or_open,
    data_files,
    last_stored,
    open_table,
    to_frame,
    topics_in,
    transaction,
    version_at,
)
from fusion.errors import InputError, LakeUnavailableError
from fusion.schema import Record, TopicPartition
from fusion.upkeep import format_lake_version, parse_lake_version


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
        """Return, per partition, the first offset that was never stored.

        A partition whose records have all expired is still there.
        """
        return {
            TopicPartition(topic, partition): last + 1
            for topic in topics_in(self._root)
            for partition, last in last_stored(open_table(self._root, topic), topic).items()
        }

    def version(self, topics: Sequence[str], *, at_ns: int | None = None) -> str:
        """Return a name for what the lake holds of ``topics``, such as ``rig.audio@3``.

        That is now, or at ``at_ns`` since 1970 UTC, by the times of the log's files.
        """
        stored = set(topics_in(self._root))
        return format_lake_version(
            {topic: self._version(topic, at_ns) if topic in stored else None for topic in topics}
        )

    def read(self, topics: Sequence[str], *, version: str | None = None) -> list[Record]:
        """Return the stored records of ``topics`` in (topic, partition, offset) order.

        Raises:
            InputError: ``version`` does not name one of ``topics``, or cannot be read any more.
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
            InputError: ``version`` does not name one of ``topics``, or cannot be read any more.
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
        return sum(
            max(0, file.num_records - max(0, (start or {}).get(name, 0) - file.first_offset))
            for name, files in self._partition_files(topics, version).items()
            for file in files
        )

    def offsets_at(
        self, topics: Sequence[str], t_event_ns: int, *, version: str | None = None
    ) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset whose event time is ``t_event_ns`` or later.

        The event time is the envelope's. The offset after the last one where all are earlier.
        """
        return {
            name: first_offset_at(files, self._root / name.topic, t_event_ns)
            for name, files in self._partition_files(topics, version).items()
        }

    def read_headers(
        self, topics: Sequence[str], *, also: Collection[str] = ()
    ) -> Iterator[Mapping[str, str]]:
        """Yield the headers of every stored record of ``topics``; no value is read.

        Those of the versions ``also`` come with them, as far as they can still be read; what one
        of them shares with another is mostly, not always, yielded once.
        """
        wanted: dict[str, set[int]] = {}
        for named in also:
            for topic, number in parse_lake_version(named).items():
                if number is not None:
                    wanted.setdefault(topic, set()).add(number)
        stored = set(topics_in(self._root))
        for topic in (topic for topic in dict.fromkeys(topics) if topic in stored):
            folder = self._root / topic
            newest = open_table(self._root, topic)
            paths = {file.path for file in data_files(newest)}
            for number in wanted.get(topic, ()):
                if number <= newest.version():
                    named_files = data_files(open_table(self._root, topic, number))
                    paths |= {each.path for each in named_files if (folder / each.path).exists()}
            for path in sorted(paths):
                yield from read_headers(folder, path)

    def _version(self, topic: str, at_ns: int | None) -> int:
        if at_ns is not None:
            return version_at(self._root, topic, at_ns)
        return open_table(self._root, topic).version()

    def _append_topic(self, topic: str, records: Sequence[Record]) -> int:
        try:
            # The table is opened before its progress is read: delta refuses the commit when
            # another writer has moved one of these transactions since.
            table = create_or_open(self._root, topic)
            new = _not_stored(records, table)
            if not new:
                return 0
            last = {record.partition: record.offset for record in new}
            write_deltalake(
                table,
                to_frame(new),
                mode="append",
                writer_properties=WRITER,
                commit_properties=CommitProperties(
                    app_transactions=[
                        Transaction(transaction(topic, partition), offset)
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
        return {
            name: read_partition(
                name,
                files,
                self._root / name.topic,
                start=start.get(name, 0),
                stop=stop.get(name, NO_END),
            )
            for name, files in self._partition_files(topics, version).items()
        }

    def _partition_files(
        self, topics: Sequence[str], version: str | None
    ) -> dict[TopicPartition, list[DataFile]]:
        versions = parse_lake_version(self.version(topics) if version is None else version)
        found: dict[TopicPartition, list[DataFile]] = {}
        for topic in dict.fromkeys(topics):
            if topic not in versions:
                raise InputError(
                    f"a lake version must name every topic to read, got {version!r} "
                    f"without {topic!r}; take the version from this lake and these topics"
                )
            number = versions[topic]
            if number is None:
                continue
            table = open_table(self._root, topic, number)
            for partition, files in files_to_read(table, self._root / topic).items():
                found[TopicPartition(topic, partition)] = files
        return found


def _not_stored(records: Sequence[Record], table: DeltaTable) -> list[Record]:
    """Return the records beyond what ``table`` holds of their partition."""
    new: list[Record] = []
    seen: dict[int, int] = {}
    stored: dict[int, int] = {}
    for record in records:
        partition = record.partition
        if partition not in seen:
            last = table.transaction_version(transaction(record.topic, partition))
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
