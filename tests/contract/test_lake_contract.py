"""The laws of every lake. A new implementation joins by a factory in ``LAKES``."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.delta_lake import DeltaLake
from fusion.errors import InputError, LakeUnavailableError
from fusion.ports import Lake
from fusion.schema import Envelope, Record, TopicPartition

OpenLake = Callable[[], Lake]
REPOSITORY = Path(__file__).parents[2]
TELEMETRY, AUDIO = "rig.telemetry", "rig.audio"


def _local_disk(folder: Path) -> OpenLake:
    return lambda: DeltaLake(folder)


LAKES = {"local-disk": _local_disk}


@pytest.fixture(params=sorted(LAKES))
def open_lake(request: pytest.FixtureRequest, tmp_path: Path) -> OpenLake:
    """Each call opens the same lake anew, as another process would."""
    return LAKES[request.param](tmp_path / "lake")


def _records(
    topic: str, offsets: Sequence[int], *, partition: int = 0, t_broker_ns: int = 0
) -> list[Record]:
    return [
        Record(
            topic,
            partition,
            offset,
            "a/b/c/d/e/f",
            offset.to_bytes(8, "big"),
            Envelope(
                id=str(offset),
                source="edge",
                type="fusion.telemetry",
                subject="a/b/c/d/e/f/rig",
                time="2026-01-01T00:00:00.000000001Z",
                seq=offset,
                epoch="boot-1",
            ).to_headers(),
            t_broker_ns + offset,
        )
        for offset in offsets
    ]


def test_gives_back_exactly_what_was_appended(open_lake: OpenLake) -> None:
    sent = _records(TELEMETRY, range(5)) + _records(TELEMETRY, [3, 9], partition=1)
    assert open_lake().append(sent) == 7
    assert open_lake().read([TELEMETRY]) == sent


def test_headers_are_read_without_values(open_lake: OpenLake) -> None:
    sent = _records(TELEMETRY, range(5)) + _records(AUDIO, [3, 9], partition=1)
    open_lake().append(sent[:3])
    open_lake().append(sent[3:])
    headers = list(open_lake().read_headers([TELEMETRY, AUDIO, "never.seen"]))
    assert sorted(each["seq"] for each in headers) == sorted(r.headers["seq"] for r in sent)
    assert all(each in [record.headers for record in sent] for each in headers)
    assert list(open_lake().read_headers(["never.seen"])) == []


def test_keeps_records_that_nothing_can_decode(open_lake: OpenLake) -> None:
    headers = {"seq": "many", "ce_time": "yesterday", "ü": "\x00"}
    poison = Record(TELEMETRY, 0, 0, "", b"\xff\x00", headers, -1)
    open_lake().append([poison])
    assert open_lake().read([TELEMETRY]) == [poison]


def test_an_append_repeated_stores_nothing_twice(open_lake: OpenLake) -> None:
    sent = _records(TELEMETRY, range(5))
    lake = open_lake()
    assert [lake.append(sent), lake.append(sent), open_lake().append(sent[2:])] == [5, 0, 0]
    assert lake.append(_records(TELEMETRY, range(3, 8))) == 3
    assert [record.offset for record in lake.read([TELEMETRY])] == list(range(8))


def test_offsets_continue_where_the_lake_ends(open_lake: OpenLake) -> None:
    lake = open_lake()
    assert lake.next_offsets() == {}
    lake.append(_records(TELEMETRY, [4, 6]) + _records(AUDIO, [0], partition=2))
    assert open_lake().next_offsets() == {
        TopicPartition(AUDIO, 2): 1,
        TopicPartition(TELEMETRY, 0): 7,
    }


def test_an_empty_append_is_nothing(open_lake: OpenLake) -> None:
    assert open_lake().append([]) == 0
    assert open_lake().read([TELEMETRY]) == []


def test_refuses_records_out_of_order(open_lake: OpenLake) -> None:
    with pytest.raises(InputError, match=r"offset order, got 'rig.telemetry' partition 0 offset 1"):
        open_lake().append(_records(TELEMETRY, [2, 1]))
    assert open_lake().read([TELEMETRY]) == []


@pytest.mark.parametrize("topic", ["", "..", "a/b", "../escape", "x" * 300])
def test_refuses_topics_that_are_no_names(open_lake: OpenLake, topic: str) -> None:
    with pytest.raises(InputError, match="a topic must be"):
        open_lake().append(_records(topic, [0]))


def test_reads_what_a_version_saw(open_lake: OpenLake) -> None:
    lake = open_lake()
    before = lake.version([TELEMETRY, AUDIO])
    lake.append(_records(TELEMETRY, range(3)))
    first = lake.version([TELEMETRY, AUDIO])
    assert lake.version([TELEMETRY, AUDIO]) == first
    lake.append(_records(TELEMETRY, range(3, 9)) + _records(AUDIO, range(2)))
    second = open_lake().version([TELEMETRY, AUDIO])

    assert len({before, first, second}) == 3
    sizes = [len(open_lake().read([TELEMETRY, AUDIO], version=v)) for v in (before, first, second)]
    assert sizes == [0, 3, 11]
    assert lake.read([TELEMETRY, AUDIO]) == lake.read([TELEMETRY, AUDIO], version=second)


def test_order_is_topic_then_partition_then_offset(open_lake: OpenLake) -> None:
    lake = open_lake()
    for start in (0, 3):
        for partition in (1, 0):
            for topic in (TELEMETRY, AUDIO):
                lake.append(_records(topic, range(start, start + 3), partition=partition))
    read = [(r.topic, r.partition, r.offset) for r in lake.read([TELEMETRY, AUDIO])]
    assert read == sorted(read)
    assert len(read) == 24


@pytest.mark.parametrize("version", ["", "rig.audio@none", "rig.telemetry", "rig.telemetry@x"])
def test_refuses_versions_that_do_not_fit(open_lake: OpenLake, version: str) -> None:
    with pytest.raises(InputError, match="a lake version must"):
        open_lake().read([TELEMETRY], version=version)


def test_refuses_a_version_that_the_lake_does_not_hold(open_lake: OpenLake) -> None:
    open_lake().append(_records(TELEMETRY, [0]))
    with pytest.raises(InputError, match=r"must hold rig\.telemetry@99"):
        open_lake().read([TELEMETRY], version="rig.telemetry@99")


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5))
def test_any_overlapping_appends_give_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    for factory in LAKES.values():
        lake = factory(tmp_path_factory.mktemp("lake") / "lake")()
        reached, num_new = 0, 0
        for start, length in cuts:
            begin = min(start, reached)
            num_new += lake.append(_records(TELEMETRY, range(begin, begin + length)))
            reached = max(reached, begin + length)
        assert num_new == reached
        assert [record.offset for record in lake.read([TELEMETRY])] == list(range(reached))


def test_of_two_writers_each_record_is_kept_once(open_lake: OpenLake) -> None:
    num_records, batch = 60, 5
    barrier = Barrier(2)

    def write() -> int:
        lake = open_lake()
        barrier.wait()
        num_new = 0
        for start in range(0, num_records, batch):
            part = _records(TELEMETRY, range(start, start + batch))
            while True:
                try:
                    num_new += lake.append(part)
                    break
                except LakeUnavailableError:  # the other one was faster: the same again
                    continue
        return num_new

    with ThreadPoolExecutor(2) as pool:
        new = [future.result() for future in [pool.submit(write), pool.submit(write)]]
    assert sum(new) == num_records
    assert [r.offset for r in open_lake().read([TELEMETRY])] == list(range(num_records))


def test_arrival_order_merges_the_topics(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    lake.append(_records(TELEMETRY, range(3)) + _records(AUDIO, range(3), t_broker_ns=1))
    merged = [(r.topic, r.offset) for r in lake.read_in_arrival_order([TELEMETRY, AUDIO])]
    assert merged == [
        (TELEMETRY, 0),
        (AUDIO, 0),
        (TELEMETRY, 1),
        (AUDIO, 1),
        (TELEMETRY, 2),
        (AUDIO, 2),
    ]


def _at(record: Record, time: str, t_broker_ns: int) -> Record:
    headers = {**record.headers, "ce_time": time}
    return dataclasses.replace(record, headers=headers, t_broker_ns=t_broker_ns)


def test_ranges_of_offsets_are_read_counted_and_found_by_time(tmp_path: Path) -> None:
    lake, second_ns = DeltaLake(tmp_path), 1_000_000_000
    begin_ns = 1_767_225_600 * second_ns
    for start in range(0, 40, 10):  # (four files a partition)
        records = [
            _at(record, f"2026-01-01T00:00:{record.offset:02}Z", begin_ns + record.offset)
            for partition in (0, 1)
            for record in _records(TELEMETRY, range(start, start + 10), partition=partition)
        ]
        # A clock that runs a century ahead, and one that says nothing.
        records[3] = _at(records[3], "2126-01-01T00:00:00Z", begin_ns + start + 3)
        records[4] = _at(records[4], "noon", begin_ns + start + 4)
        lake.append(records)
    lake.append(_records(AUDIO, range(5)))
    version, one, two = lake.version([TELEMETRY]), *(TopicPartition(TELEMETRY, p) for p in (0, 1))
    lake.append(_records(TELEMETRY, range(40, 50)))

    start, stop = {one: 7, two: 40}, {one: 23}
    read = lake.read_in_arrival_order([TELEMETRY], version=version, start=start, stop=stop)
    assert [(r.partition, r.offset) for r in read] == [(0, offset) for offset in range(7, 23)]
    assert lake.num_records([TELEMETRY], version=version) == 80
    assert lake.num_records([TELEMETRY], version=version, start=start) == 33
    assert lake.num_records([TELEMETRY], version=version, start={one: 99}) == 40
    assert lake.num_records([TELEMETRY], start={one: 42, two: 40}) == 8

    for second, expected in ((0, 0), (4, 5), (17, 17), (23, 25), (39, 39), (40, 40)):
        found = lake.offsets_at([TELEMETRY], begin_ns + second * second_ns, version=version)
        assert found == {one: expected, two: second}
    assert lake.offsets_at(["nothing"], begin_ns) == {}


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_killed_writer_leaves_each_record_once(tmp_path: Path) -> None:
    """SIGKILL as soon as an append has touched the disk, several times, then a run to the end."""
    # So many that a killer who is late on a busy machine still finds it at work.
    num_offsets = 700
    script = Path(__file__).with_name("lake_append_process.py")
    command = [sys.executable, str(script), str(tmp_path), str(num_offsets)]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    for num_appends_before in (1, 2, 1, 3, 1):
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(num_appends_before):
                assert process.stdout.readline() == b"appending\n"
            before = _files(tmp_path)
            while process.poll() is None and _files(tmp_path) == before:
                pass
            process.kill()
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)

    read = [record.value.decode() for record in DeltaLake(tmp_path).read([TELEMETRY, AUDIO])]
    parts = [f"{topic}/{partition}" for topic in (AUDIO, TELEMETRY) for partition in (0, 1)]
    assert read == [f"{part}/{offset}" for part in parts for offset in range(num_offsets)]
