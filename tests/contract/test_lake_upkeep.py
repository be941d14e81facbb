"""The laws of upkeep: it changes no kept version and no progress, whatever goes on meanwhile."""

from __future__ import annotations

import itertools
import os
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
from tests.contract.lake_past import (
    HOUR_NS,
    TOPIC,
    age,
    checkpoint,
    fill,
    newest_version,
    read_version,
    records_of,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_compaction_changes_no_version_and_no_progress(folder: Path) -> None:
    sent = fill(folder)
    lake, before = DeltaLake(folder), newest_version(folder)
    arrived = list(lake.read_in_arrival_order([TOPIC]))
    progress = lake.next_offsets()
    done = DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6)

    assert (done.num_files_before, done.num_files_after) == (16, 2)
    assert newest_version(folder) > before
    for version in (None, before):
        assert read_version(folder, version) == sent
    assert list(lake.read_in_arrival_order([TOPIC])) == arrived
    checkpoint(folder / TOPIC)
    assert DeltaLake(folder).next_offsets() == progress
    assert DeltaLake(folder).append(sent) == 0
    assert DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6).num_files_before == 0


def test_a_dry_run_changes_nothing(folder: Path) -> None:
    fill(folder)
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
        part = records_of(len(sent), len(sent) + count, size=size)
        DeltaLake(folder).append(part)
        sent += part
        if number % 3 == 0:
            DeltaUpkeep(folder).compact(TOPIC, target_bytes=target_bytes)
    assert read_version(folder) == sent
    files = data_files(DeltaTable(str(folder / TOPIC)))
    assert all(a.last_offset < b.first_offset for a, b in itertools.pairwise(files))


def test_files_that_another_program_interleaved_are_read_in_order(folder: Path) -> None:
    """Delta's own OPTIMIZE joins neighbours in its log, which need not be neighbours by offset."""
    sent: list[Record] = []
    overlaps = 0
    while not overlaps:
        for count, size in ((9, 500), (4, 9000), (7, 3000), (2, 9000), (5, 500)):
            # Sizes that differ make bins that differ from one compaction to the next.
            bytes_each = size + 37 * (len(sent) % 90)
            part = records_of(len(sent), len(sent) + count, size=bytes_each)
            DeltaLake(folder).append(part)
            sent += part
        DeltaTable(str(folder / TOPIC)).optimize.compact(target_size=100_000)
        files = data_files(DeltaTable(str(folder / TOPIC)))
        overlaps = sum(a.last_offset > b.first_offset for a, b in itertools.pairwise(files))
        assert len(sent) < 5000
    assert read_version(folder) == sent


@pytest.mark.parametrize("before_ns", [0, 1, 12, 20, 40, 99])
def test_exactly_the_older_records_expire_for_good(folder: Path, before_ns: int) -> None:
    sent = fill(folder)
    before = newest_version(folder)
    progress = DeltaLake(folder).next_offsets()
    younger = [record for record in sent if record.t_broker_ns >= before_ns]
    done = DeltaUpkeep(folder).expire(TOPIC, before_ns=before_ns)

    assert (done.num_records, done.num_left) == (len(sent) - len(younger), len(younger))
    assert read_version(folder) == younger
    assert read_version(folder, before) == sent
    checkpoint(folder / TOPIC)
    lake = DeltaLake(folder)
    assert lake.next_offsets() == progress
    # A restarted ingest begins where the lake says; one that begins too early stores nothing again.
    assert lake.append(sent) == 0
    more = records_of(40, 43, partition=1)
    assert lake.append(more) == 3
    assert read_version(folder) == [*younger, *more]


def test_times_of_senders_need_not_grow_with_the_offsets(folder: Path) -> None:
    sent = [
        Record(TOPIC, 0, offset, "k", b"v", {}, t_broker_ns=offset * 7 % 20) for offset in range(20)
    ]
    for start in range(0, 20, 5):
        DeltaLake(folder).append(sent[start : start + 5])
    DeltaUpkeep(folder).expire(TOPIC, before_ns=10)
    assert read_version(folder) == [record for record in sent if record.t_broker_ns >= 10]


def test_a_lake_without_times_in_its_log_expires_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lakes of earlier versions are."""
    properties = {"delta.appendOnly": "true", "delta.dataSkippingStatsColumns": "offset,t_event_ns"}
    monkeypatch.setattr("connectors.delta_lake.tables._TABLE_PROPERTIES", properties)
    sent = fill(folder)
    assert all(f.t_first_ns is None for f in data_files(DeltaTable(str(folder / TOPIC))))
    part = DeltaUpkeep(folder).holding(TOPIC).partitions[0]
    assert (part.t_first_ns, part.t_last_ns) == (0, 39)
    DeltaUpkeep(folder).expire(TOPIC, before_ns=12)
    assert read_version(folder) == [record for record in sent if record.t_broker_ns >= 12]


@pytest.mark.parametrize("work", ["compact", "expire"])
@pytest.mark.parametrize("meanwhile", ["append", "compact", "expire", "vacuum"])
def test_what_happens_while_upkeep_writes_is_never_lost_nor_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, work: str, meanwhile: str
) -> None:
    sent = fill(folder)
    more = records_of(40, 45, t_ns=1000)
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
    assert read_version(folder) == expected
    others[work]()
    if work == "expire":
        expected = [record for record in expected if record.t_broker_ns >= 12]
    assert read_version(folder) == expected


def test_an_append_that_began_before_a_compaction_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = fill(folder)

    def commit_late(*given: object, **options: object) -> None:
        DeltaUpkeep(folder).compact(TOPIC, target_bytes=10**6)
        real_write(*given, **options)  # type: ignore[arg-type] the very same ones

    real_write = lake_module_write()
    monkeypatch.setattr("connectors.delta_lake.lake.write_deltalake", commit_late)
    more = records_of(40, 45, partition=1)
    assert DeltaLake(folder).append(more) == 5
    assert read_version(folder) == [*sent, *more]


def lake_module_write() -> Callable[..., None]:
    from connectors.delta_lake import lake

    return lake.write_deltalake


def test_a_compaction_that_is_stopped_keeps_what_is_done(folder: Path) -> None:
    sent = fill(folder)
    answers = iter([False, True])
    done = DeltaUpkeep(folder).compact(
        TOPIC, target_bytes=1_000_000, should_stop=lambda: next(answers)
    )
    assert done.is_stopped
    assert (done.num_files_before, done.num_files_after) == (8, 1)
    assert read_version(folder) == sent
    assert DeltaUpkeep(folder).compact(TOPIC, target_bytes=1_000_000).num_files_before == 8


def test_a_vacuum_keeps_what_is_named_and_what_is_young(folder: Path) -> None:
    sent = fill(folder)
    named, unnamed = newest_version(folder) - 6, newest_version(folder)
    held = read_version(folder, named)
    upkeep = DeltaUpkeep(folder)
    upkeep.compact(TOPIC, target_bytes=10**6)
    age(folder / TOPIC, hours=24 * 40)
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

    assert read_version(folder, named) == held
    assert read_version(folder) == sent
    for topics_read in (
        lambda: read_version(folder, unnamed),
        lambda: read_version(folder, unnamed - 1),
    ):
        with pytest.raises(InputError, match=r"is gone: a vacuum removes"):
            topics_read()
    told = {each.version: each.num_records for each in upkeep.versions(TOPIC, last=99)}
    assert told[named] == len(held)
    assert told[unnamed] is None
    assert DeltaLake(folder).append(sent) == 0


def test_a_partition_without_a_file_is_still_known(folder: Path) -> None:
    fill(folder)
    progress = DeltaLake(folder).next_offsets()
    upkeep = DeltaUpkeep(folder)
    upkeep.expire(TOPIC, before_ns=10**6)
    age(folder / TOPIC, hours=24 * 40)
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


def test_a_version_is_found_by_its_time(folder: Path) -> None:
    lake = DeltaLake(folder)
    times: list[int] = []
    for number in range(3):
        lake.append(records_of(number, number + 1))
        age(folder / TOPIC, hours=1)
        times.append(time.time_ns())
    ages = [lake.version([TOPIC, "never.seen"], at_ns=times[-1] - h * HOUR_NS) for h in range(5)]
    halves = [f"{TOPIC}@{number},never.seen@none" for number in (3, 3, 2, 1, 0)]
    assert ages == halves


def test_headers_of_named_versions_are_read_too(folder: Path) -> None:
    sent = fill(folder)
    named = DeltaLake(folder).version([TOPIC])
    DeltaUpkeep(folder).expire(TOPIC, before_ns=20)
    lake = DeltaLake(folder)
    wanted = sorted(record.headers["seq"] for record in sent)
    assert len(list(lake.read_headers([TOPIC]))) == 40
    found = {each["seq"] for each in lake.read_headers([TOPIC], also=[named, f"{TOPIC}@999"])}
    assert found == set(wanted)


def test_an_unknown_topic_is_refused(folder: Path) -> None:
    fill(folder, num_appends=1)
    with pytest.raises(InputError, match=r"got 'rig.vide'; it has rig.video"):
        DeltaUpkeep(folder).compact("rig.vide", target_bytes=1000)
