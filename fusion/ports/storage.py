"""What is kept: the lake, tables of findings, objects, archives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fusion.schema import Record, TopicPartition


class Lake(Protocol):
    """Keeps every record that was read, each once."""

    def append(self, records: Sequence[Record]) -> int:
        """Store ``records`` that are not stored yet, and return how many were new.

        The records of one partition must come in offset order. Idempotent per offset range: a
        repeated call stores nothing twice.
        """
        ...

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset that was never stored."""
        ...

    def read(self, topics: Sequence[str], *, version: str | None = None) -> list[Record]:
        """Return the stored records of ``topics`` in (topic, partition, offset) order."""
        ...

    def read_in_arrival_order(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
        stop: Mapping[TopicPartition, int] | None = None,
    ) -> Iterator[Record]:
        """Yield the stored records of ``topics`` as they came to the broker, in bounded memory.

        Records of one partition come in offset order. ``version`` is what :meth:`version` returned
        when a model saw the lake; None is now. Of a partition in ``start`` or ``stop`` come the
        offsets from there on, or below.
        """
        ...

    def num_records(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
    ) -> int:
        """Return about how many records of ``topics`` are stored from ``start`` on."""
        ...

    def offsets_at(
        self, topics: Sequence[str], t_event_ns: int, *, version: str | None = None
    ) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset whose event time is ``t_event_ns`` or later.

        The event time is the envelope's; one that a broken clock set is not believed.
        """
        ...

    def read_headers(
        self, topics: Sequence[str], *, also: Collection[str] = ()
    ) -> Iterator[Mapping[str, str]]:
        """Yield the headers of every stored record of ``topics``; no value is read.

        Those of the versions ``also`` come with them, as far as they can still be read.
        """
        ...

    def version(self, topics: Sequence[str], *, at_ns: int | None = None) -> str:
        """Return a name for exactly what the lake holds of ``topics`` now, or held at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of a backfill, as the live process would have published it."""

    kind: Literal["score", "alarm-event"]
    id: str
    tick: int
    t_ns: int
    surprise: float | None
    """Of a score: 1 is the alarm threshold."""
    body: bytes
    """The message's value."""


class FindingTable(Protocol):
    """Keeps what backfills found: per plant, model version and tick the newest run's."""

    def replace(
        self,
        findings: Sequence[Finding],
        *,
        plant: str,
        model_version: str,
        data_version: str,
        ticks: range,
    ) -> None:
        """Put ``findings`` in the place of all that was kept of ``ticks``, or change nothing.

        Raises:
            LakeUnavailableError: Another writer was faster, or the disk failed; call again.
        """
        ...

    def read(self, *, plant: str, model_version: str) -> Iterator[Finding]:
        """Yield what is kept, in the order in which it was said."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store says of an object without reading it."""

    key: str
    num_bytes: int
    t_modified_ns: int


class ObjectStore(Protocol):
    """Keeps values that are too large for the broker, by key: names divided by ``/``."""

    def put(self, key: str, content: bytes) -> None:
        """Store ``content`` whole or not at all. When the call returns, it is durable.

        Raises:
            ObjectStoreUnavailableError: The store did not take it; call it again.
        """
        ...

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """Return what lies at ``key``; None when nothing does.

        Raises:
            ObjectTooLargeError: It has more than ``max_bytes``; nothing of it was read.
            ObjectStoreUnavailableError: The store did not answer in time.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove what lies at ``key``, if anything does.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time; call it again.
        """
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below the folder ``prefix``, in no order.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time.
        """
        ...


class Archive(ObjectStore, Protocol):
    """An object store that takes whole files, of any size."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path`` whole or not at all.

        Raises:
            ObjectStoreUnavailableError: The store did not take it, or the file is not there.
        """
        ...

    def fetch_file(self, key: str, path: Path) -> bool:
        """Write what lies at ``key`` to the new file ``path``; False when nothing does.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time, or the disk is full.
        """
        ...
