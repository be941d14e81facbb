"""Playing payloads: pace, batches, interruption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from flows.replay import MAX_BATCH_MESSAGES, ReplayReport, replay
from fusion.errors import BrokerUnavailableError, InputError, SpoolFullError
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import Envelope, Message, Payload, TelemetryBatch, TopicPartition
from tests.clocks import HandClock

PLANT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: rig, modality: telemetry, rate_hz: 1, tags: [{name: level, unit: m, range: [0, 9]}]}
"""
START_NS = 1_700_000_000 * NANOSECONDS
NOW_NS = START_NS + 10**6 * NANOSECONDS


@pytest.fixture
def plant() -> Plant:
    return parse_plant(PLANT, origin="plant.yaml")


class Ledger:
    """Keeps what was published, call by call, with the time of each call."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.calls: list[tuple[int, list[Message]]] = []

    def publish(
        self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
    ) -> None:
        assert commit is None
        self.calls.append((self._clock.now_ns(), list(messages)))

    def close(self) -> None:
        """Nothing to free."""

    @property
    def messages(self) -> list[Message]:
        return [message for _, call in self.calls for message in call]


def _rows(times_s: Iterable[float]) -> Iterator[Payload]:
    for time_s in times_s:
        t_R_ns = np.array([START_NS + round(time_s * NANOSECONDS)])
        yield TelemetryBatch(
            "rig",
            ("level",),
            t_R_ns,
            t_R_ns,
            t_R_ns,
            np.array([[time_s]]),
            np.zeros((1, 1), np.uint8),
            np.zeros((1, 1), np.uint32),
        )


def test_full_speed_sends_everything_in_bounded_batches(plant: Plant) -> None:
    clock = HandClock(NOW_NS)
    ledger, reports = Ledger(clock), list[ReplayReport]()
    num = MAX_BATCH_MESSAGES + 10
    report = replay(
        _rows(range(num)), ledger, plant, speed=None, clock=clock, on_progress=reports.append
    )
    assert [len(call) for _, call in ledger.calls] == [MAX_BATCH_MESSAGES, 10]
    assert report.num_messages == {"rig": num}
    assert report == reports[-1]
    assert report.num_bytes == sum(len(message.value) for message in ledger.messages)
    assert report.t_event_ns == START_NS + (num - 1) * NANOSECONDS
    assert not clock.slept_s


def test_messages_are_numbered_in_one_epoch_per_replay(plant: Plant) -> None:
    clock = HandClock(NOW_NS)
    ledger = Ledger(clock)
    for _ in range(2):
        replay(_rows(range(3)), ledger, plant, speed=None, clock=clock)
        clock.sleep(1.0)
    said = [Envelope.from_headers(message.headers) for message in ledger.messages]
    assert [each.seq for each in said] == [0, 1, 2, 0, 1, 2]
    assert len({each.epoch for each in said}) == 2
    assert {message.key for message in ledger.messages} == {str(plant.address)}
    assert {message.topic for message in ledger.messages} == {"p.telemetry"}


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_speed_is_event_time_per_wall_time(plant: Plant, speed: float) -> None:
    clock = HandClock(NOW_NS)
    begin_ns, ledger = clock.now_ns(), Ledger(clock)
    replay(_rows([0, 1, 3]), ledger, plant, speed=speed, clock=clock)
    sent_s = [(t_ns - begin_ns) / NANOSECONDS for t_ns, _ in ledger.calls]
    # A call goes out when the next payload is not due yet, the last one at the end.
    assert sent_s == pytest.approx([0, 1 / speed, 3 / speed])


def test_long_pauses_of_the_recording_are_shortened(plant: Plant) -> None:
    clock = HandClock(NOW_NS)
    replay(_rows([0, 86_400, 86_401]), Ledger(clock), plant, speed=1.0, clock=clock, max_pause_s=3)
    assert clock.slept_s == pytest.approx([3, 1])


def test_what_is_due_within_a_moment_goes_together(plant: Plant) -> None:
    clock = HandClock(NOW_NS)
    ledger = Ledger(clock)
    replay(_rows(n / 1000 for n in range(100)), ledger, plant, speed=1.0, clock=clock)
    assert len(ledger.messages) == 100
    assert len(ledger.calls) <= 6


def test_ctrl_c_leaves_whole_publish_calls(plant: Plant) -> None:
    def interrupted() -> Iterator[Payload]:
        yield from _rows(range(MAX_BATCH_MESSAGES + 5))
        raise KeyboardInterrupt

    clock = HandClock(NOW_NS)
    ledger = Ledger(clock)
    report = replay(interrupted(), ledger, plant, speed=None, clock=clock)
    assert report.is_interrupted
    assert report.num_messages == {"rig": MAX_BATCH_MESSAGES} == {"rig": len(ledger.messages)}


def test_a_lost_broker_is_not_hidden(plant: Plant) -> None:
    class Gone(Ledger):
        def publish(
            self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
        ) -> None:
            raise BrokerUnavailableError(f"{len(messages)} messages, {commit}")

    clock = HandClock(NOW_NS)
    with pytest.raises(BrokerUnavailableError):
        replay(_rows([0]), Gone(clock), plant, speed=None, clock=clock)


def test_a_recording_waits_for_room_in_the_spool_and_loses_nothing(plant: Plant) -> None:
    class Full(Ledger):
        num_refused = 0

        def publish(
            self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
        ) -> None:
            if len(clock.slept_s) < 3:
                self.num_refused += 1
                raise SpoolFullError("no room")
            super().publish(messages, commit=commit)

    clock = HandClock(NOW_NS)
    full, num = Full(clock), MAX_BATCH_MESSAGES + 10
    report = replay(_rows(range(num)), full, plant, speed=None, clock=clock)
    assert full.num_refused == 3
    said = [Envelope.from_headers(message.headers).seq for message in full.messages]
    assert said == list(range(num))
    assert report.num_messages == {"rig": num}


def test_refuses_times_that_the_plant_would_refuse(plant: Plant) -> None:
    clock = HandClock(NOW_NS)
    with pytest.raises(InputError, match="must lie in the past"):
        replay(_rows([0, 2 * 10**6]), Ledger(clock), plant, speed=None, clock=clock)


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_refuses_speeds_that_go_nowhere(plant: Plant, speed: float) -> None:
    clock = HandClock(NOW_NS)
    with pytest.raises(InputError, match="speed must be above 0"):
        replay(_rows([0]), Ledger(clock), plant, speed=speed, clock=clock)
