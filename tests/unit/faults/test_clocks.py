"""The stepped clock of the fault campaign is what a machine's clock is when it is set."""

from __future__ import annotations

import time

import pytest
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from connectors.system_clock import SystemClock
from tests.faults.clocks import ClockStep, step_clock

DAY_S = 86_400.0


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    append = DefaultRecordBatchBuilder.append
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    monkeypatch.setattr(append, "__defaults__", append.__defaults__)


def sent_s() -> float:
    """Return the stamp that the Kafka client gives a message now."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1000,
    )
    builder.append(0, None, b"", b"", [])
    return DefaultRecordBatch(bytes(builder.build())).first_timestamp / 1000


@pytest.mark.usefixtures("restored")
def test_everything_reads_the_newest_step_but_the_age_of_the_machine() -> None:
    began_s, age_s = time.time(), time.monotonic()
    step_clock([ClockStep(0.0, DAY_S), ClockStep(0.0, -DAY_S), ClockStep(3_600.0, 0.0)])
    clocks = [time.time(), time.time_ns() / 1e9, SystemClock().now_ns() / 1e9, sent_s()]
    assert [round((read_s - began_s) / DAY_S, 2) for read_s in clocks] == [-1.0] * 4
    assert time.monotonic() - age_s < DAY_S / 100
