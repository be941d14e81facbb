"""Upkeep of the tables: compaction, retention, vacuum, and what is there."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from connectors.delta_lake import overview
from connectors.delta_lake.rewriting import (
    Written,
    allow_removal,
    exchange,
    join,
    plan_runs,
    without_older,
)
from connectors.delta_lake.tables import (
    DataFile,
    data_files,
    must_give,
    open_table,
    topics_in,
    version_at,
)
from fusion.errors import InputError, LakeUnavailableError
from fusion.upkeep import Advance, Compaction, Expiry, LakeVersion, TopicHolding, Vacuum

_SLACK_HOURS = 24
"""Of a vacuum: a file is written before it is committed, by up to this long."""


class DeltaUpkeep:
    """Implements :class:`fusion.upkeep.LakeUpkeep` below ``uri``, a folder of the local disk."""

    def __init__(self, uri: str | Path) -> None:
        self._root = Path(uri)

    def topics(self) -> list[str]:
        """Return the topics of the lake, in order."""
        return topics_in(self._root)

    def holding(self, topic: str) -> TopicHolding:
        """Return what the lake holds of ``topic`` now."""
        self._require(topic)
        with must_give(topic):
            return overview.holding(self._root, topic)

    def streams(self, topic: str) -> dict[str, int]:
        """Return the number of records per stream; those that name none count as ``""``."""
        self._require(topic)
        with must_give(topic):
            return overview.streams(self._root, topic)

    def versions(self, topic: str, *, last: int) -> list[LakeVersion]:
        """Return the ``last`` versions of ``topic``, newest first."""
        self._require(topic)
        with must_give(topic):
            return overview.versions(self._root, topic, last)

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

        Each partition is one commit; holds one new file in memory.
        """
        self._require(topic)
        folder = self._root / topic
        runs = plan_runs(data_files(open_table(self._root, topic)), target_bytes)
        if is_dry_run:
            return _compaction(runs)
        done: list[list[DataFile]] = []
        total, is_stopped = sum(map(len, runs)), False
        for partition in sorted({run[0].partition for run in runs}):
            # Opened before the files are chosen anew: what was exchanged since refuses the commit.
            table = open_table(self._root, topic)
            chosen = [f for f in data_files(table) if f.partition == partition]
            exchanged: list[DataFile] = []
            written: list[Written] = []
            for run in plan_runs(chosen, target_bytes):
                if is_stopped := should_stop is not None and should_stop():
                    break
                written.append(join(folder, run))
                exchanged += run
                done.append(run)
                if on_step is not None:
                    on_step(min(total, sum(map(len, done))), total)
            if written:
                what = f"partition {partition}: {len(exchanged)} files joined to {len(written)}"
                exchange(table, topic, exchanged, written, is_data_changed=False, what=what)
            if is_stopped:
                break
        return _compaction(done, is_stopped=is_stopped)

    def expire(
        self,
        topic: str,
        *,
        before_ns: int,
        is_dry_run: bool = False,
        on_step: Advance | None = None,
    ) -> Expiry:
        """Remove the records that came to the broker before ``before_ns``, all of them or none.

        One commit. Files that also hold younger records are written anew, one at a time.
        """
        self._require(topic)
        folder = self._root / topic
        chosen = _choose_older(folder, open_table(self._root, topic), before_ns)
        if is_dry_run or not chosen.expiry.num_records:
            return chosen.expiry
        allow_removal(open_table(self._root, topic), topic)
        # Chosen anew from a table that nothing has moved on: what was exchanged since refuses.
        table = open_table(self._root, topic)
        chosen = _choose_older(folder, table, before_ns)
        written: list[Written] = []
        for number, file in enumerate(chosen.mixed, start=1):
            written.append(without_older(folder, file, before_ns))
            if on_step is not None:
                on_step(number, len(chosen.mixed))
        moment = datetime.datetime.fromtimestamp(before_ns / 1e9, datetime.UTC)
        num_records = chosen.expiry.num_records
        what = f"{num_records} records from before {moment:%Y-%m-%d %H:%M:%S} UTC expired"
        old = [*chosen.whole, *chosen.mixed]
        exchange(table, topic, old, written, is_data_changed=True, what=what)
        return chosen.expiry

    def vacuum(
        self, topic: str, *, keep_hours: int, named: Collection[int], is_dry_run: bool = False
    ) -> Vacuum:
        """Remove files that no version of the last ``keep_hours`` and none of ``named`` needs.

        A version of these hours has files of three kinds: those of the oldest of them, named to
        Delta; those added since, which are younger than the hours; those removed since, whose
        removal is. Only the removals of the last week are sure to be in a checkpoint of the log,
        so Delta's own rule of age alone would not do.
        """
        self._require(topic)
        folder = self._root / topic
        now_ns = _now_ns()
        oldest = version_at(self._root, topic, now_ns - keep_hours * 3600 * 10**9)
        table = open_table(self._root, topic)
        there = sorted({number for number in named if number <= table.version()})

        def remove(*, is_dry_run: bool) -> list[str]:
            return table.vacuum(
                retention_hours=keep_hours + _SLACK_HOURS,
                dry_run=is_dry_run,
                enforce_retention_duration=False,
                full=True,
                keep_versions=sorted({*there, oldest}),
            )

        try:
            paths = remove(is_dry_run=True)
            num_bytes = sum((folder / path).stat().st_size for path in paths)
            if paths and not is_dry_run:
                remove(is_dry_run=False)
        except (DeltaError, OSError) as failed:
            raise LakeUnavailableError(
                f"the files of {topic!r} must be listed and removed, but: {failed}; "
                "no file that a kept version needs was touched; run it again"
            ) from failed
        return Vacuum(
            num_files=len(paths),
            num_bytes=num_bytes,
            oldest_kept=oldest,
            named_kept=tuple(number for number in there if number < oldest),
            named_unknown=tuple(sorted(set(named) - set(there))),
        )

    def _require(self, topic: str) -> None:
        if topic not in (there := self.topics()):
            raise InputError(
                f"a topic must be in the lake {self._root}, got {topic!r}; it has "
                f"{', '.join(there) or 'none yet'}"
            )


@dataclass(frozen=True, slots=True)
class _Older:
    """The files that hold older records."""

    whole: list[DataFile]
    mixed: list[DataFile]
    """Those that hold younger ones too."""
    expiry: Expiry


def _choose_older(folder: Path, table: DeltaTable, before_ns: int) -> _Older:
    with must_give(folder.name):
        files = overview.with_times(folder, data_files(table))
        older = [file for file in files if overview.oldest_ns(file) < before_ns]
        mixed = [file for file in older if overview.newest_ns(file) >= before_ns]
        num_mixed = sum(overview.num_older(folder, file, before_ns) for file in mixed)
    whole = [file for file in older if overview.newest_ns(file) < before_ns]
    num_records = num_mixed + sum(file.num_records for file in whole)
    num_left = sum(file.num_records for file in files) - num_records
    return _Older(whole, mixed, Expiry(num_records, num_left, len(whole), len(mixed)))


def _compaction(runs: list[list[DataFile]], *, is_stopped: bool = False) -> Compaction:
    return Compaction(
        num_files_before=sum(map(len, runs)),
        num_files_after=len(runs),
        num_bytes=sum(file.num_bytes for run in runs for file in run),
        is_stopped=is_stopped,
    )


def _now_ns() -> int:
    return round(datetime.datetime.now(datetime.UTC).timestamp() * 1e9)
