"""A device that keeps what it said until it has a receipt gets one when all is safe, not before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fusion.edge import DeviceRun
from fusion.errors import BrokerUnavailableError, DeviceUnavailableError, FusionError
from fusion.plant import NANOSECONDS
from fusion.ports import Observed, Reading
from fusion.schema import Envelope, Message, Quality, TelemetryBatch
from fusion.schema.codec import decode_payload
from tests.clocks import HandClock
from tests.peers.peer import TELEMETRY, plant_with

RULE = {"topic": "t", "values": [{"stream": "process", "tag": "level", "path": ""}]}
GATEWAY = {"name": "gateway", "protocol": "mqtt-json", "host": "broker", "rules": [RULE]}
PLANT = plant_with(TELEMETRY, [GATEWAY])
READ_S = 0.03
"""So a few reads go by before it is time to send."""


class Keeping:
    """A session that gives out 0, 1, 2, ... one with each read, and notes its receipts."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.num_read = self.num_received = 0
        self.awaits_receipt = False
        self.is_lost = False
        self.speaks_every = 1
        self._num_calls = 0
        self.units: dict[str, str] = {}
        self.is_ended = False
        self.holds_until_ns: int | None = None
        self.is_closed = False

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        del timeout_s
        self._bench.clock.pass_s(READ_S)
        if self.is_lost:
            raise DeviceUnavailableError("gone")
        self._num_calls += 1
        if self._num_calls % self.speaks_every:
            return []
        t_ns = self._bench.clock.now_ns() + self.num_read * NANOSECONDS
        value = float(self.num_read)
        self.num_read += 1
        return [Reading("process", "level", value, Quality.GOOD, t_ns, t_ns, t_ns)]

    def receipt(self) -> None:
        assert not self.is_closed
        self.num_received = self.num_read
        assert len(self._bench.values) >= self.num_received

    def position(self) -> str:
        return ""

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """Also the publisher: takes messages, except when a test says why not."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.session = Keeping(self)
        self.values: list[float] = []
        self.num_healths = 0
        self.failure: FusionError | None = None
        self.failure_of_forward: FusionError | None = None
        self.run = DeviceRun(
            PLANT,
            PLANT.devices[0],
            open_session=lambda _: self.session,
            publisher=self,
            positions=self,
            clock=self.clock,
            forward=self.forward,
        )
        self.run.step()

    def load(self) -> str | None:
        return None

    def save(self, position: str) -> None:
        del position

    def publish(self, messages: Sequence[Message], *, commit: object = None) -> None:
        del commit
        if self.failure is not None:
            raise self.failure
        for message in messages:
            if message.topic == "edge.telemetry":
                batch = decode_payload(Envelope.from_headers(message.headers), message.value)
                assert isinstance(batch, TelemetryBatch)
                self.values += batch.values_RC[:, 0].tolist()
            else:
                self.num_healths += 1

    def forward(self) -> None:
        if self.failure_of_forward is not None:
            raise self.failure_of_forward

    def close(self) -> None:
        pass

    def step_until(self, is_so: Callable[[], bool], most: int = 500) -> None:
        for _ in range(most):
            if is_so():
                return
            self.run.step()
        raise AssertionError("it did not come to it")


def test_a_receipt_is_for_what_was_sent() -> None:
    bench = Bench()
    bench.run.step()
    assert (bench.session.num_read, bench.session.num_received) == (1, 0)
    for _ in range(20):
        bench.run.step()
        assert bench.session.num_received == len(bench.values)
    assert bench.session.num_received > 10


def test_while_nothing_can_be_sent_there_is_no_receipt() -> None:
    bench = Bench()
    bench.failure = BrokerUnavailableError("away")
    bench.step_until(lambda: bench.run.state == "waiting")
    num_read = bench.session.num_read
    for _ in range(50):
        bench.run.step()
    assert (bench.session.num_read, bench.session.num_received) == (num_read, 0)
    bench.failure = None
    bench.step_until(lambda: bench.session.num_received >= num_read)


def test_what_needs_somebody_to_mend_it_is_on_disk_and_has_its_receipt() -> None:
    bench = Bench()
    bench.failure = FusionError("a wrong password")
    # (The publisher's promise; here nothing kept it, so the values are not looked for.)
    bench.session.receipt = lambda: setattr(bench.session, "num_received", 1)  # type: ignore[method-assign]
    bench.step_until(lambda: bench.session.num_received == 1)


def test_a_health_message_is_no_reason_for_a_receipt() -> None:
    """What was read since the last sending is not safe because something else was sent."""
    bench = Bench()
    bench.failure_of_forward = BrokerUnavailableError("away")
    bench.session.speaks_every = 5  # So often there is nothing to send, and that fails.
    for _ in range(10_000):
        bench.run.step()  # (Every receipt is compared with what was published.)
    assert bench.session.num_received > 1_500
    assert bench.num_healths > 20


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_device_that_waits_for_its_receipt_is_not_kept_waiting(is_awaited: bool) -> None:
    bench = Bench()
    bench.session.awaits_receipt = is_awaited
    bench.step_until(lambda: bench.session.num_read == 1)
    assert bench.session.num_received == (1 if is_awaited else 0)


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_last_receipt_comes_before_the_end_of_the_session(is_lost: bool) -> None:
    bench = Bench()
    bench.run.step()
    bench.session.is_lost = is_lost
    if is_lost:
        bench.run.step()
    else:
        bench.run.close()
    assert bench.session.is_closed
    assert bench.session.num_received == bench.session.num_read == 1


def test_a_session_that_ended_before_its_records_were_sent_has_no_receipt() -> None:
    bench = Bench()
    bench.run.step()
    bench.failure = BrokerUnavailableError("away")
    bench.session.is_lost = True
    bench.run.step()
    assert bench.session.is_closed
    bench.failure = None
    bench.session = Keeping(bench)
    bench.step_until(lambda: bench.session.num_read == 2)
    assert bench.values[0] == 0.0
