"""Upkeep of a lake: what is there, fewer files, fewer records, files that nobody needs.

Apart from :class:`fusion.ports.Lake`, which everybody uses: these are for those who run the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from fusion.errors import InputError

_NO_TABLE = "none"
Advance = Callable[[int, int], None]
"""Is told of steps of long work: how much is done, of how much."""


@dataclass(frozen=True, slots=True)
class PartitionHolding:
    """What the lake holds of one broker partition; None where it holds no record."""

    partition: int
    num_records: int
    num_files: int
    num_bytes: int
    first_offset: int | None
    last_offset: int | None
    next_offset: int
    """The first offset that was never stored."""
    t_first_ns: int | None
    """Oldest time at the broker."""
    t_last_ns: int | None

    @property
    def num_missing(self) -> int:
        """Offsets between the first and the last that are not there.

        Markers of the broker's own, or records that were gone before they could be stored.
        """
        if self.first_offset is None or self.last_offset is None:
            return 0
        return self.last_offset - self.first_offset + 1 - self.num_records


@dataclass(frozen=True, slots=True)
class TopicHolding:
    """What the lake holds of one topic now."""

    topic: str
    version: int
    partitions: tuple[PartitionHolding, ...]


@dataclass(frozen=True, slots=True)
class LakeVersion:
    """One version of one topic."""

    version: int
    t_ns: int
    what: str
    """What made it, in words."""
    num_records: int | None
    """Records that it holds; None when its files are gone and it cannot be read any more."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """Small files that were, or would be, written anew as larger ones."""

    num_files_before: int
    num_files_after: int
    num_bytes: int
    is_stopped: bool = False
    """Somebody asked to stop; what is counted is done, the rest is as it was."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Records that were, or would be, removed from the newest version."""

    num_records: int
    num_left: int
    num_files_removed: int
    num_files_rewritten: int
    """Those that also hold younger records."""


@dataclass(frozen=True, slots=True)
class Vacuum:
    """Files that were, or would be, removed from the disk."""

    num_files: int
    num_bytes: int
    oldest_kept: int
    """Every version from this one on can still be read."""
    named_kept: tuple[int, ...]
    """Older versions that can still be read, because they are named."""
    named_unknown: tuple[int, ...]
    """Named versions that this lake has never had."""


class LakeUpkeep(Protocol):
    """Looks after a lake while others append to it and read it."""

    def topics(self) -> list[str]:
        """Return the topics of the lake, in order."""
        ...

    def holding(self, topic: str) -> TopicHolding:
        """Return what the lake holds of ``topic`` now."""
        ...

    def streams(self, topic: str) -> dict[str, int]:
        """Return the number of records per stream; those that name none count as ``""``."""
        ...

    def versions(self, topic: str, *, last: int) -> list[LakeVersion]:
        """Return the ``last`` versions of ``topic``, newest first."""
        ...

    def compact(
        self,
        topic: str,
        *,
        target_bytes: int,
        is_dry_run: bool = False,
        on_step: Advance | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Compaction:
        """Write neighbouring small files anew as files of up to ``target_bytes``.

        No version reads differently, and appends go on meanwhile.

        Raises:
            LakeUnavailableError: Other upkeep was faster; nothing is lost, call again.
        """
        ...

    def expire(
        self,
        topic: str,
        *,
        before_ns: int,
        is_dry_run: bool = False,
        on_step: Advance | None = None,
    ) -> Expiry:
        """Remove the records that came to the broker before ``before_ns``, all of them or none.

        They are never stored again, and older versions still read them until a vacuum.

        Raises:
            LakeUnavailableError: Other upkeep was faster; nothing was removed, call again.
        """
        ...

    def vacuum(
        self, topic: str, *, keep_hours: int, named: Collection[int], is_dry_run: bool = False
    ) -> Vacuum:
        """Remove files that no version of the last ``keep_hours`` and none of ``named`` needs.

        Raises:
            LakeUnavailableError: The disk failed; call again.
        """
        ...


def parse_lake_version(version: str) -> Mapping[str, int | None]:
    """Return the version of each topic that a lake's version names; None where it had no such.

    Raises:
        InputError: It is no version's name.

    Example:
        >>> parse_lake_version("rig.audio@3,rig.video@none")
        {'rig.audio': 3, 'rig.video': None}
    """
    versions: dict[str, int | None] = {}
    for part in version.split(",") if version else []:
        topic, at, number = part.rpartition("@")
        if not at or not (number == _NO_TABLE or (number.isascii() and number.isdecimal())):
            raise InputError(
                f"a lake version must look like 'rig.audio@3,rig.video@none', got {version!r}; "
                "copy it from the model's manifest"
            )
        if topic in versions:
            raise InputError(
                f"a lake version must name each topic once, got {version!r}; say two versions apart"
            )
        versions[topic] = None if number == _NO_TABLE else int(number)
    return versions


def format_lake_version(versions: Mapping[str, int | None]) -> str:
    """Return the name that :func:`parse_lake_version` reads.

    Example:
        >>> format_lake_version({"rig.audio": 3, "rig.video": None})
        'rig.audio@3,rig.video@none'
    """
    return ",".join(
        f"{topic}@{_NO_TABLE if number is None else number}" for topic, number in versions.items()
    )
