"""Laws of one micro-batch, against a scripted source and a real lake on the local disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delta_lake import DeltaLake
from flows.ingest import IngestReport, ingest_once
from fusion.errors import InputError, LakeUnavailableError
from fusion.ports import Lake
from fusion.schema import Lost, Record, TopicPartition

PARTS = (TopicPartition("rig.telemetry", 0), TopicPartition("rig.audio", 1))


class HandClock:
    """A clock that moves by ``step_ns`` at every look."""

    def __init__(self, step_ns: int = 0) -> None:
        self._now_ns = 0
        self._step_ns = step_ns

    def now_ns(self) -> int:
        self._now_ns += self._step_ns
        return self._now_ns

    monotonic_ns = now_ns

    def sleep(self, duration_s: float) -> None:
        self._now_ns += round(duration_s * 1e9)


class ScriptedSource:
    """A log with given lengths; each poll gives at most ``fetch`` records of one partition."""

    def __init__(self, ends: Mapping[TopicPartition, int], *, fetch: int = 3) -> None:
        self.ends = dict(ends)
        self._positions = dict.fromkeys(ends, 0)
        self._fetch = fetch

    def poll(self, *, timeout_s: float) -> list[Record]:
        assert timeout_s > 0
        for part, end in self.ends.items():
            start = self._positions[part]
            if start < end:
                stop = min(end, start + self._fetch)
                self._positions[part] = stop
                return [
                    Record(*part, offset, "plant", bytes(10), {}, offset)
                    for offset in range(start, stop)
                ]
        return []

    def has_joined(self) -> bool:
        return True

    def assigned(self) -> dict[TopicPartition, int]:
        return dict.fromkeys(self.ends, 1)

    def keep_alive(self) -> None:
        """Alone."""

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        raise NotImplementedError

    def positions(self) -> dict[TopicPartition, int]:
        return dict(self._positions)

    def committed(
        self, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        return {}

    def start_offsets(self) -> dict[TopicPartition, int]:
        return dict.fromkeys(self.ends, 0)

    def take_lost(self) -> list[Lost]:
        return []

    def end_offsets(self) -> dict[TopicPartition, int]:
        return dict(self.ends)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        assert positions.keys() <= self.ends.keys()
        self._positions.update(positions)

    def close(self) -> None:
        """Nothing to free."""


def _stored(lake: Lake) -> list[tuple[str, int, int]]:
    read = lake.read(["rig.telemetry", "rig.audio"])
    return [(record.topic, record.partition, record.offset) for record in read]


def _ingest(source: ScriptedSource, lake: Lake, max_records: int = 1_000) -> IngestReport:
    return ingest_once(source, lake, max_records=max_records, clock=HandClock())


def test_copies_everything_and_reports_it(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    report = _ingest(ScriptedSource({PARTS[0]: 7, PARTS[1]: 2}), lake)
    assert report == IngestReport(
        num_read={"rig.telemetry": 7, "rig.audio": 2},
        num_stored=9,
        num_offsets_skipped={"rig.telemetry": 0, "rig.audio": 0},
        num_left={"rig.telemetry": 0, "rig.audio": 0},
    )
    assert report.is_complete
    assert len(_stored(lake)) == 9


def test_a_repeated_run_reads_nothing_again(tmp_path: Path) -> None:
    ends = {PARTS[0]: 5}
    _ingest(ScriptedSource(ends), DeltaLake(tmp_path))
    again = _ingest(ScriptedSource(ends), DeltaLake(tmp_path))
    assert (again.num_read, again.num_stored) == ({"rig.telemetry": 0}, 0)


@settings(max_examples=10, deadline=None)
@given(
    growth=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 8)), min_size=1, max_size=4
    )
)
def test_any_bounded_runs_give_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, growth: list[tuple[int, int, int]]
) -> None:
    lake = DeltaLake(tmp_path_factory.mktemp("lake"))
    ends = dict.fromkeys(PARTS, 0)
    for more_0, more_1, max_records in growth:
        ends = {PARTS[0]: ends[PARTS[0]] + more_0, PARTS[1]: ends[PARTS[1]] + more_1}
        report = _ingest(ScriptedSource(ends), lake, max_records)
        assert sum(report.num_read.values()) < max_records + 3
    while not _ingest(ScriptedSource(ends), lake, 4).is_complete:
        pass
    expected = sorted((part.topic, part.partition, n) for part in PARTS for n in range(ends[part]))
    assert _stored(lake) == expected


def test_stops_when_the_time_is_over(tmp_path: Path) -> None:
    source = ScriptedSource({PARTS[0]: 100}, fetch=1)
    clock = HandClock(step_ns=1_000_000_000)
    report = ingest_once(source, DeltaLake(tmp_path), max_seconds=10, clock=clock)
    assert not report.is_complete
    assert report.num_stored == sum(report.num_read.values()) < 12


def test_what_was_deleted_from_the_broker_is_counted(tmp_path: Path) -> None:
    class Forgetful(ScriptedSource):
        def poll(self, *, timeout_s: float) -> list[Record]:
            return [r for r in super().poll(timeout_s=timeout_s) if r.offset >= 4]

    report = _ingest(Forgetful({PARTS[0]: 6}), DeltaLake(tmp_path))
    assert report.num_offsets_skipped == {"rig.telemetry": 4}


def test_a_failing_lake_loses_nothing(tmp_path: Path) -> None:
    class Busy(DeltaLake):
        def append(self, records: object) -> int:
            raise LakeUnavailableError(f"refused {records}")

    with pytest.raises(LakeUnavailableError):
        _ingest(ScriptedSource({PARTS[0]: 6}), Busy(tmp_path))
    assert _ingest(ScriptedSource({PARTS[0]: 6}), DeltaLake(tmp_path)).num_stored == 6


class FullLake(DeltaLake):
    """Takes nothing while its disk is full."""

    is_full = True

    def append(self, records: Sequence[Record]) -> int:
        if self.is_full:
            raise LakeUnavailableError("no room")
        return super().append(records)


@pytest.mark.parametrize("num_before", [0, 4])
def test_a_refused_batch_is_read_again_with_the_same_source(
    tmp_path: Path, num_before: int
) -> None:
    source = ScriptedSource({PARTS[0]: 7, PARTS[1]: 2})
    lake = FullLake(tmp_path)
    if num_before:
        lake.is_full = False
        _ingest(source, lake, max_records=num_before)
        lake.is_full = True
    with pytest.raises(LakeUnavailableError):
        _ingest(source, lake)
    lake.is_full = False
    assert _ingest(source, lake).is_complete
    assert _stored(lake) == [(*PARTS[1], offset) for offset in range(2)] + [
        (*PARTS[0], offset) for offset in range(7)
    ]


def test_refuses_bounds_that_let_nothing_through(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be above 0, got 0"):
        _ingest(ScriptedSource({}), DeltaLake(tmp_path), 0)


def test_a_topic_that_was_made_anew_is_not_skipped_in_silence(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    _ingest(ScriptedSource({PARTS[0]: 7}), lake)
    with pytest.raises(InputError, match=r"must not end before offset 7.*ends at 3"):
        _ingest(ScriptedSource({PARTS[0]: 3}), lake)
