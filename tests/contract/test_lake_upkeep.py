"""Upkeep against an oracle that remembers what every version held.

Ages are real ones to Delta: the files' own times and those in the log are moved into the past.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delta_lake import DeltaLake, DeltaUpkeep, maintenance
from connectors.delta_lake.tables import data_files
from fusion.errors import InputError, LakeUnavailableError
from fusion.schema import Record, TopicPartition

TOPIC = "rig.video"
HOUR_NS = 3600 * 10**9
NUM_PARTITIONS = 2


def _records(
    start: int, stop: int, *, partition: int = 0, t_ns: int = 0, size: int = 8
) -> list[Record]:
    return [
        Record(TOPIC, partition, offset, "k", os.urandom(size), {"seq": str(offset)}, t_ns + offset)
        for offset in range(start, stop)
    ]


def _filled(folder: Path, num_appends: int = 8) -> list[Record]:
    """Append five records to each partition, several times; return them as the lake reads them."""
    sent: list[Record] = []
    for number in range(num_appends):
        for partition in range(NUM_PARTITIONS):
            part = _records(number * 5, number * 5 + 5, partition=partition)
            DeltaLake(folder).append(part)
            sent += part
    return sorted(sent, key=lambda record: (record.partition, record.offset))


def _age(folder: Path, hours: int) -> None:
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
    _checkpoint(folder)


def _checkpoint(folder: Path) -> None:
    """A checkpoint of the log leaves out files that were removed more than a week ago."""
    table = DeltaTable(str(folder))
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    table.create_checkpoint()
    table.cleanup_metadata()
    assert all(path.stat().st_mtime_ns == t_ns for path, t_ns in times.items())


def _version(folder: Path) -> int:
    return int(DeltaLake(folder).version([TOPIC]).rpartition("@")[2])


def _read(folder: Path, version: int | None = None) -> list[Record]:
    named = None if version is None else f"{TOPIC}@{version}"
    return DeltaLake(folder).read([TOPIC], version=named)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_compaction_changes_no_version_and_no_progress(folder: Path) -> None:
    sent = _filled(folder)
    lake, before = DeltaLake(folder), _version(folder)
    arrived = list(lake.read_in_arrival_order([TOPIC]))
    progress = lake.next_offsets()
    done = DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6)

    assert (done.num_files_before, done.num_files_after) == (16, 2)
    assert _version(folder) > before
    for version in (None, before):
        assert _read(folder, version) == sent
    assert list(lake.read_in_arrival_order([TOPIC])) == arrived
    _checkpoint(folder / TOPIC)
    assert DeltaLake(folder).next_offsets() == progress
    assert DeltaLake(folder).append(sent) == 0
    assert DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6).num_files_before == 0


def test_a_dry_run_changes_nothing(folder: Path) -> None:
    _filled(folder)
    before, upkeep = set(folder.rglob("*")), DeltaUpkeep(folder)
    assert upkeep.compact(TOPIC, target_bytes=10**6, is_dry_run=True).num_files_after == 2
    assert upkeep.expire(TOPIC, before_ns=7, is_dry_run=True).num_records == 14
    assert set(folder.rglob("*")) == before


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([100, 3000, 9000])), min_size=4),
    target_bytes=st.integers(20_000, 200_000),
)
def test_files_stay_neighbours_however_often_they_are_compacted(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: Sequence[tuple[int, int]],
    target_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    sent: list[Record] = []
    for number, (count, size) in enumerate(sizes):
        part = _records(len(sent), len(sent) + count, size=size)
        DeltaLake(folder).append(part)
        sent += part
        if number % 3 == 0:
            DeltaUpkeep(folder).compact(TOPIC, target_bytes=target_bytes)
    assert _read(folder) == sent
    files = data_files(DeltaTable(str(folder / TOPIC)))
    assert all(a.last_offset < b.first_offset for a, b in zip(files, files[1:], strict=False))


def test_files_that_another_program_interleaved_are_read_in_order(folder: Path) -> None:
    """Delta's own OPTIMIZE joins neighbours in its log, which need not be neighbours by offset."""
    sent: list[Record] = []
    overlaps = 0
    while not overlaps:
        for count, size in ((9, 500), (4, 9000), (7, 3000), (2, 9000), (5, 500)):
            size += 37 * (len(sent) % 90)
            part = _records(len(sent), len(sent) + count, size=size)
            DeltaLake(folder).append(part)
            sent += part
        DeltaTable(str(folder / TOPIC)).optimize.compact(target_size=100_000)
        files = data_files(DeltaTable(str(folder / TOPIC)))
        overlaps = sum(
            a.last_offset > b.first_offset for a, b in zip(files, files[1:], strict=False)
        )
        assert len(sent) < 5000
    assert _read(folder) == sent


@pytest.mark.parametrize("before_ns", [0, 1, 12, 20, 40, 99])
def test_exactly_the_older_records_expire_for_good(folder: Path, before_ns: int) -> None:
    sent = _filled(folder)
    before = _version(folder)
    progress = DeltaLake(folder).next_offsets()
    younger = [record for record in sent if record.t_broker_ns >= before_ns]
    done = DeltaUpkeep(folder).expire(TOPIC, before_ns=before_ns)

    assert (done.num_records, done.num_left) == (len(sent) - len(younger), len(younger))
    assert _read(folder) == younger
    assert _read(folder, before) == sent
    _checkpoint(folder / TOPIC)
    lake = DeltaLake(folder)
    assert lake.next_offsets() == progress
    # A restarted ingest begins where the lake says; one that begins too early stores nothing again.
    assert lake.append(sent) == 0
    more = _records(40, 43, partition=1)
    assert lake.append(more) == 3
    assert _read(folder) == [*younger, *more]


def test_times_of_senders_need_not_grow_with_the_offsets(folder: Path) -> None:
    sent = [
        Record(TOPIC, 0, offset, "k", b"v", {}, t_broker_ns=offset * 7 % 20) for offset in range(20)
    ]
    for start in range(0, 20, 5):
        DeltaLake(folder).append(sent[start : start + 5])
    DeltaUpkeep(folder).expire(TOPIC, before_ns=10)
    assert _read(folder) == [record for record in sent if record.t_broker_ns >= 10]


def test_a_lake_without_times_in_its_log_expires_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lakes of earlier versions are."""
    properties = {"delta.appendOnly": "true", "delta.dataSkippingStatsColumns": "offset,t_event_ns"}
    monkeypatch.setattr("connectors.delta_lake.tables._TABLE_PROPERTIES", properties)
    sent = _filled(folder)
    assert all(f.t_first_ns is None for f in data_files(DeltaTable(str(folder / TOPIC))))
    part = DeltaUpkeep(folder).holding(TOPIC).partitions[0]
    assert (part.t_first_ns, part.t_last_ns) == (0, 39)
    DeltaUpkeep(folder).expire(TOPIC, before_ns=12)
    assert _read(folder) == [record for record in sent if record.t_broker_ns >= 12]


@pytest.mark.parametrize("work", ["compact", "expire"])
@pytest.mark.parametrize("meanwhile", ["append", "compact", "expire", "vacuum"])
def test_what_happens_while_upkeep_writes_is_never_lost_nor_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, work: str, meanwhile: str
) -> None:
    sent = _filled(folder)
    more = _records(40, 45, t_ns=1000)
    others: dict[str, Callable[[], object]] = {
        "append": lambda: DeltaLake(folder).append(more),
        "compact": lambda: DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6),
        "expire": lambda: DeltaUpkeep(folder).expire(TOPIC, before_ns=12),
        "vacuum": lambda: DeltaUpkeep(folder).vacuum(TOPIC, keep_hours=1, named=[]),
    }
    real_exchange = maintenance.exchange

    def exchange_late(*given: object, **options: object) -> None:
        monkeypatch.undo()
        others[meanwhile]()
        real_exchange(*given, **options)  # type: ignore[arg-type] the very same ones

    monkeypatch.setattr(maintenance, "exchange", exchange_late)
    is_refused = meanwhile in {"compact", "expire"}
    if is_refused:
        with pytest.raises(LakeUnavailableError, match=r"nothing is lost; run it again"):
            others[work]()
    else:
        others[work]()
    expected = [*sent, *more] if meanwhile == "append" else sent
    if meanwhile == "expire" or (work == "expire" and not is_refused):
        expected = [record for record in expected if record.t_broker_ns >= 12]
    expected.sort(key=lambda record: (record.partition, record.offset))
    assert _read(folder) == expected
    others[work]()
    if work == "expire":
        expected = [record for record in expected if record.t_broker_ns >= 12]
    assert _read(folder) == expected


def test_an_append_that_began_before_a_compaction_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = _filled(folder)

    def commit_late(*given: object, **options: object) -> None:
        DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6)
        real_write(*given, **options)  # type: ignore[arg-type] the very same ones

    real_write = lake_module_write()
    monkeypatch.setattr("connectors.delta_lake.lake.write_deltalake", commit_late)
    more = _records(40, 45, partition=1)
    assert DeltaLake(folder).append(more) == 5
    assert _read(folder) == [*sent, *more]


def lake_module_write() -> Callable[..., None]:
    from connectors.delta_lake import lake

    return lake.write_deltalake


def test_a_compaction_that_is_stopped_keeps_what_is_done(folder: Path) -> None:
    sent = _filled(folder)
    answers = iter([False, True])
    done = DeltaUpkeep(folder).compact(
        TOPIC, target_bytes=1_000_000, should_stop=lambda: next(answers)
    )
    assert done.is_stopped
    assert (done.num_files_before, done.num_files_after) == (8, 1)
    assert _read(folder) == sent
    assert DeltaUpkeep(folder).compact(TOPIC, target_bytes=1_000_000).num_files_before == 8


def test_a_vacuum_keeps_what_is_named_and_what_is_young(folder: Path) -> None:
    sent = _filled(folder)
    named, unnamed = _version(folder) - 6, _version(folder)
    held = _read(folder, named)
    upkeep = DeltaUpkeep(folder)
    upkeep.compact(TOPIC, target_bytes=10**6)
    _age(folder / TOPIC, hours=24 * 40)
    orphan = folder / TOPIC / "partition=0" / "left-by-a-crash.parquet"
    orphan.write_bytes(b"x" * 100)
    young = upkeep.vacuum(TOPIC, keep_hours=24, named=[named, 10**6], is_dry_run=True)
    assert (young.named_kept, young.named_unknown) == ((named,), (10**6,))
    os.utime(orphan, ns=(0, 0))
    would = upkeep.vacuum(TOPIC, keep_hours=24, named=[named], is_dry_run=True)
    assert would.num_files == young.num_files + 1
    assert orphan.exists()
    assert upkeep.vacuum(TOPIC, keep_hours=24, named=[named]) == would
    assert not orphan.exists()

    assert _read(folder, named) == held
    assert _read(folder) == sent
    for topics_read in (lambda: _read(folder, unnamed), lambda: _read(folder, unnamed - 1)):
        with pytest.raises(InputError, match=r"is gone: a vacuum removes"):
            topics_read()
    told = {each.version: each.num_records for each in upkeep.versions(TOPIC, last=99)}
    assert told[named] == len(held)
    assert told[unnamed] is None
    assert DeltaLake(folder).append(sent) == 0


def test_a_partition_without_a_file_is_still_known(folder: Path) -> None:
    _filled(folder)
    progress = DeltaLake(folder).next_offsets()
    upkeep = DeltaUpkeep(folder)
    upkeep.expire(TOPIC, before_ns=10**6)
    _age(folder / TOPIC, hours=24 * 40)
    upkeep.vacuum(TOPIC, keep_hours=1, named=[])
    assert list(folder.rglob("partition=*/*.parquet")) == []
    assert (
        DeltaLake(folder).next_offsets()
        == progress
        == {
            TopicPartition(TOPIC, 0): 40,
            TopicPartition(TOPIC, 1): 40,
        }
    )
    part = upkeep.holding(TOPIC).partitions[1]
    assert (part.num_records, part.first_offset, part.next_offset) == (0, None, 40)


STEPS = ["append", "append", "compact", "expire", "age", "checkpoint", "vacuum"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 40)), min_size=8, max_size=30),
    named_every=st.integers(2, 7),
)
def test_kept_versions_read_the_same_whatever_upkeep_does(
    steps: list[tuple[str, int]], named_every: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The oracle keeps every version's records; each kept one must read them at the end."""
    folder = tmp_path_factory.mktemp("lake")
    lake, upkeep = DeltaLake(folder), DeltaUpkeep(folder)
    reached, now_h = 0, 0
    held: dict[int, list[Record]] = {}
    made_h: dict[int, int] = {}
    window_begin_h = -(10**9)
    ended_h: dict[int, int] = {}

    def remember(records: list[Record]) -> None:
        newest = _version(folder)
        for version in range(max(held, default=-1) + 1, newest + 1):
            held[version], made_h[version] = records, now_h
            ended_h[version - 1] = now_h

    lake.append(_records(0, 3))
    remember([*_read(folder)])
    reached = 3
    for step, amount in steps:
        now: list[Record] = held[max(held)]
        if step == "append":
            now = [*now, *(part := _records(reached, reached + amount))]
            assert lake.append(part) == amount
            reached += amount
        elif step == "compact":
            upkeep.compact(TOPIC, target_bytes=amount * 500)
        elif step == "expire":
            upkeep.expire(TOPIC, before_ns=reached - amount)
            now = [record for record in now if record.t_broker_ns >= reached - amount]
        elif step == "age":
            _age(folder / TOPIC, hours=amount * 24)
            now_h += amount * 24
        elif step == "checkpoint":
            _checkpoint(folder / TOPIC)
        else:
            window_begin_h = max(window_begin_h, now_h - amount * 24)
            named = [version for version in held if version % named_every == 0]
            upkeep.vacuum(TOPIC, keep_hours=amount * 24, named=named)
        remember(now)
    for version, records in held.items():
        was_current = ended_h.get(version, now_h) > window_begin_h
        if version % named_every == 0 or was_current:
            assert _read(folder, version) == records
    assert _read(folder) == held[max(held)]
    assert lake.append(_records(0, reached)) == 0


def test_a_version_is_found_by_its_time(folder: Path) -> None:
    lake = DeltaLake(folder)
    times: list[int] = []
    for number in range(3):
        lake.append(_records(number, number + 1))
        _age(folder / TOPIC, hours=1)
        times.append(time.time_ns())
    ages = [lake.version([TOPIC, "never.seen"], at_ns=times[-1] - h * HOUR_NS) for h in range(5)]
    halves = [f"{TOPIC}@{number},never.seen@none" for number in (3, 3, 2, 1, 0)]
    assert ages == halves


def test_headers_of_named_versions_are_read_too(folder: Path) -> None:
    sent = _filled(folder)
    named = DeltaLake(folder).version([TOPIC])
    DeltaUpkeep(folder).expire(TOPIC, before_ns=20)
    lake = DeltaLake(folder)
    wanted = sorted(record.headers["seq"] for record in sent)
    assert len(list(lake.read_headers([TOPIC]))) == 40
    found = {each["seq"] for each in lake.read_headers([TOPIC], also=[named, f"{TOPIC}@999"])}
    assert found == set(wanted)
    shutil.rmtree(folder / TOPIC / "partition=0")
    DeltaLake(folder)


def test_an_unknown_topic_is_refused(folder: Path) -> None:
    _filled(folder, num_appends=1)
    with pytest.raises(InputError, match=r"got 'rig.vide'; it has rig.video"):
        DeltaUpkeep(folder).compact("rig.vide", target_bytes=1000)
