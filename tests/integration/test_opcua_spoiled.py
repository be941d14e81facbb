"""An OPC UA server whose bytes break the protocol costs a reconnection, and no value."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from collections.abc import Iterator

import pytest

from connectors.opcua import OpcUaSession
from connectors.opcua.bounding import HEADER, MAX_ANSWER_BYTES
from fusion.edge import DeviceRun
from fusion.errors import DeviceUnavailableError
from fusion.plant.devices import OpcUaDevice
from fusion.schema import Envelope, Message, TelemetryBatch
from fusion.schema.codec import decode_payload
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import CLOCK, PATIENCE_S
from tests.peers.spoiling import SpoilingWay, spoiling_way

pytestmark = pytest.mark.xdist_group("opcua")

DOUBLE, STRING = b"\x0b", b"\x0c"
"""How a variant's encoding begins (Part 6, 5.2.2.16)."""
AS_DOUBLE = b"\xfe\xff\xff\xff" + struct.pack("<d", 30.0)[4:]
"""A number a little above 30 that begins, read as a text, with the length -2."""
POISON = struct.unpack("<d", AS_DOUBLE)[0]
GRAIN_S = 0.01
"""Values of the peer's stream that are nearer together share a row."""


class AsTextOnce:
    """Says that the poisonous number is a text, the first time: history is given as it is."""

    def __init__(self) -> None:
        self._has_said = False

    def __call__(self, came: bytes) -> bytes:
        said = came if self._has_said else came.replace(DOUBLE + AS_DOUBLE, STRING + AS_DOUBLE)
        self._has_said = self._has_said or said != came
        return said


@pytest.fixture(scope="module", params=["asyncua", "node-opcua"])
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpcUaPeer]:
    made = OpcUaPeer(tmp_path_factory.mktemp("peer"), request.param, history=True)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def way(peer: OpcUaPeer) -> Iterator[SpoilingWay]:
    with spoiling_way(server_port(peer)) as made:
        yield made


def server_port(peer: OpcUaPeer) -> int:
    assert isinstance(peer.device, OpcUaDevice)
    (port,) = re.findall(r":(\d+)/", peer.device.endpoint)
    return int(port)


def through(peer: OpcUaPeer, way: SpoilingWay) -> OpcUaDevice:
    assert isinstance(peer.device, OpcUaDevice)
    return peer.device.model_copy(update={"endpoint": f"opc.tcp://127.0.0.1:{way.port}/plc"})


class Kept:
    """A publisher and a place for positions, both in memory."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.position: str | None = None

    def publish(self, messages: list[Message], **_: object) -> None:
        for message in messages:
            if message.topic.endswith(".telemetry"):
                batch = decode_payload(Envelope.from_headers(message.headers), message.value)
                assert isinstance(batch, TelemetryBatch)
                self.values += batch.values_RC[:, 0].tolist()

    def load(self) -> str | None:
        return self.position

    def save(self, position: str) -> None:
        self.position = position


def test_a_notification_that_cannot_be_read_is_missed_and_read_from_history(
    peer: OpcUaPeer, way: SpoilingWay
) -> None:
    device, kept, told = through(peer, way), Kept(), list[tuple[str, str]]()
    run = DeviceRun(
        peer.plant,
        device,
        open_session=lambda position: OpcUaSession(device, position, clock=CLOCK),
        publisher=kept,  # type: ignore[arg-type]
        positions=kept,
        clock=CLOCK,
        on_state=lambda *what: told.append(what),
    )

    def step_until(value: float) -> None:
        t_end_s = time.monotonic() + PATIENCE_S
        while value not in kept.values:
            assert time.monotonic() < t_end_s, (kept.values, told)
            run.step()

    try:
        peer.say(10.0)
        step_until(10.0)
        way.spoil = AsTextOnce()
        peer.say(POISON)
        # A busy server samples the newest of values that follow each other at once, and no other.
        t_end_s = time.monotonic() + PATIENCE_S
        while way.num_spoiled == 0:
            assert time.monotonic() < t_end_s, (kept.values, told)
            run.step()
        for value in (40.0, 50.0):
            peer.say(value)
            time.sleep(2 * GRAIN_S)
        t_end_s = time.monotonic() + PATIENCE_S
        while not any("is missing" in why for _, why in told):
            assert time.monotonic() < t_end_s, (kept.values, told)
            run.step()
        way.spoil = lambda came: came
        peer.say(60.0)
        step_until(60.0)
    finally:
        run.close()
    said = [value for value in kept.values if value in {10.0, POISON, 40.0, 50.0, 60.0}]
    assert list(dict.fromkeys(said)) == [10.0, POISON, 40.0, 50.0, 60.0]


def test_an_answer_that_cannot_be_read_is_no_connection(peer: OpcUaPeer, way: SpoilingWay) -> None:
    unit = struct.pack("<i", 1) + b"%"
    way.spoil = lambda came: came.replace(unit, struct.pack("<i", -2) + b"%")
    with pytest.raises(DeviceUnavailableError, match="cannot be read"):
        OpcUaSession(through(peer, way), None, clock=CLOCK)
    way.spoil = lambda came: came
    OpcUaSession(through(peer, way), None, clock=CLOCK).close()


def test_an_answer_that_is_too_large_is_why_a_session_is_lost(
    peer: OpcUaPeer, way: SpoilingWay
) -> None:
    with contextlib.closing(OpcUaSession(through(peer, way), None, clock=CLOCK)) as session:
        way.spoil = lambda came: HEADER.pack(b"MSG", b"F", 2**31) + came[HEADER.size :]

        def read_on() -> None:
            t_end_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < t_end_s:
                session.read(timeout_s=0.2)

        with pytest.raises(DeviceUnavailableError, match=f"at most {MAX_ANSWER_BYTES} bytes"):
            read_on()
    way.spoil = lambda came: came
