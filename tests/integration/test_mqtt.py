"""What a broker was given with QoS 1 comes, however the connection to it ends."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import connectors.mqtt.session
from connectors.mqtt import JsonRules, MqttSession
from connectors.mqtt.client import MAX_PACKET_BYTES
from fusion.errors import DeviceUnavailableError
from fusion.plant.devices import MqttJsonDevice
from fusion.ports import Observed, Reading, Unusable
from fusion.schema import Quality
from tests.peers.mqtt import JsonPeer, SparkplugPeer
from tests.peers.mqtt_ways import old_broker, slow_way
from tests.peers.peer import CLOCK, PATIENCE_S, read_until, seen

pytestmark = pytest.mark.xdist_group("devices")
NUM_SAID = 60
"""Several times what mosquitto has under way at once by MQTT 3.1.1."""
UNDER_WAY_BY_311 = 20
"""mosquitto's max_inflight_messages."""
GIANT_BYTES = 100_000_000
MOST_MEMORY_BYTES = 4 * MAX_PACKET_BYTES


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[JsonPeer]:
    made = JsonPeer(tmp_path)
    made.start()
    yield made
    made.stop()


def opened(peer: JsonPeer, port: int, **changed: object) -> MqttSession:
    assert isinstance(peer.device, MqttJsonDevice)
    device = peer.device.model_copy(update={"port": port} | changed)
    return MqttSession(device, JsonRules(device), clock=CLOCK)


@contextlib.contextmanager
def speaking(peer: JsonPeer, version: str) -> Iterator[int]:
    """Yield the port at which the broker speaks ``version``."""
    if version == "5":
        yield peer.server.port
        return
    with old_broker(peer.server.port) as way:
        yield way.port


def values_of(session: MqttSession, num: int) -> list[float]:
    return [each.value for each in read_until(session, lambda found: len(found) >= num)]


def test_what_arrived_and_was_not_taken_comes_to_the_next_session(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()):
        pass  # From now on the broker keeps what is said.
    for value in range(NUM_SAID):
        peer.say(float(value))
    monkeypatch.setattr(connectors.mqtt.session, "MAX_PER_READ", 3)
    found: list[float] = []
    while NUM_SAID - 1 not in found:
        with closing(peer.open()) as session:
            found += [each.value for each in read_until(session, bool)]
            session.receipt()
    # (At least once, says QoS 1: an acknowledgement that is lost on the way brings it again.)
    assert list(dict.fromkeys(found)) == [float(value) for value in range(NUM_SAID)]


def test_what_has_no_receipt_comes_again_and_what_has_one_does_not(peer: JsonPeer) -> None:
    said = [float(value) for value in range(NUM_SAID)]
    with closing(peer.open()) as session:
        for value in said:
            peer.say(value)
        # More than the broker's own limit: MQTT 5 lets the receiver say how many it takes.
        assert values_of(session, NUM_SAID) == said
    with closing(peer.open()) as session:
        assert values_of(session, NUM_SAID) == said
        session.receipt()
    with closing(peer.open()) as session:
        peer.say(99.0)
        assert values_of(session, 1) == [99.0]


def test_tags_are_not_gone_through_for_each_message(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(They were: of 10,000 tags with a message each, nothing was read in time any more.)"""
    with closing(peer.open()) as session:
        monkeypatch.setattr(MqttJsonDevice, "tag_sources", property(lambda _: pytest.fail("again")))
        peer.say(1.0)
        assert values_of(session, 1) == [1.0]


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_broker_that_knows_only_mqtt_3_is_read_too(peer: JsonPeer, *, hangs_up: bool) -> None:
    with (
        old_broker(peer.server.port, hangs_up=hangs_up) as way,
        closing(opened(peer, way.port)) as session,
    ):
        assert way.num_refused == 1
        for value in range(NUM_SAID):
            peer.say(float(value))
        found: list[float] = []
        t_end_s = time.monotonic() + PATIENCE_S
        while len(found) < NUM_SAID:
            assert time.monotonic() < t_end_s
            found += [each.value for each in seen(session.read(timeout_s=0.1))]
            if session.awaits_receipt:
                session.receipt()
    assert found == [float(value) for value in range(NUM_SAID)]


def test_a_broker_that_waits_is_known_by_its_silence(peer: JsonPeer) -> None:
    with old_broker(peer.server.port) as way, closing(opened(peer, way.port)) as session:
        for value in range(NUM_SAID):
            peer.say(float(value))
        assert len(values_of(session, UNDER_WAY_BY_311)) == UNDER_WAY_BY_311
        assert seen(session.read(timeout_s=0.3)) == []
        assert session.awaits_receipt
        session.receipt()
        assert not session.awaits_receipt
        # (How many then come at once is mosquitto's affair.)
        assert values_of(session, 1)[0] == UNDER_WAY_BY_311


def read_raw(session: MqttSession, num: int) -> list[Observed]:
    found: list[Observed] = []
    t_end_s = time.monotonic() + PATIENCE_S
    while len(found) < num:
        assert time.monotonic() < t_end_s, found
        found += session.read(timeout_s=0.1)
    return found


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_giant_message_is_told_and_takes_no_memory(peer: JsonPeer, version: str) -> None:
    with speaking(peer, version) as port:
        with closing(opened(peer, port)):
            pass  # From now on the broker keeps what is said.
        peer.publish("line1/tank/state", bytes(GIANT_BYTES))
        peer.say(20.0)
        tracemalloc.start()
        try:
            with closing(opened(peer, port)) as session:
                giant, reading = read_raw(session, 2)
                session.receipt()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(giant, Unusable)
        assert str(MAX_PACKET_BYTES) in giant.why
        assert "line1/tank/state" in giant.why
        assert isinstance(reading, Reading)
        assert reading.value == 20.0
        assert peak_bytes < MOST_MEMORY_BYTES
        with closing(opened(peer, port)) as session:
            peer.say(30.0)
            assert values_of(session, 1) == [30.0], "the giant had its receipt too"


def test_what_is_just_small_enough_is_read(peer: JsonPeer) -> None:
    topic = "line1/tank/state"
    head = len(topic) + 2 + 2 + 1  # its length, the message's number, no properties
    said = b'{"stamp": 1767225600000000000, "ok": true, "data": {"level": 12.5}}'
    with closing(peer.open()) as session:
        peer.publish(topic, said.ljust(MAX_PACKET_BYTES - head))
        peer.publish(topic, said.ljust(MAX_PACKET_BYTES - head + 1))
        fits, giant = read_raw(session, 2)
    assert isinstance(fits, Reading)
    assert fits.value == 12.5
    assert isinstance(giant, Unusable)


def test_what_came_before_the_connection_broke_is_given_out_first(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()) as session:
        peer.say(20.0)
        take = session._take

        def take_and_break(came: object, found: list[object]) -> None:
            take(came, found)  # type: ignore[arg-type]
            raise OSError("broken while taking")

        monkeypatch.setattr(session, "_take", take_and_break)
        assert [each.value for each in read_until(session, bool, patience_s=PATIENCE_S)] == [20.0]
        with pytest.raises(DeviceUnavailableError, match="broken while taking"):
            seen(session.read(timeout_s=0.1))


def test_a_receipt_over_a_broken_connection_does_no_harm(peer: JsonPeer) -> None:
    with closing(peer.open()) as session:
        peer.say(20.0)
        read_until(session, bool)
        peer.server.stop()
        with pytest.raises(DeviceUnavailableError):
            read_until(session, lambda _: False)
        session.receipt()
        with pytest.raises(DeviceUnavailableError):
            session.read(timeout_s=0.1)


def test_a_pause_of_the_reader_is_not_taken_for_the_silence_of_the_broker(peer: JsonPeer) -> None:
    """The answer to a ping lies behind messages that nobody has read yet."""
    with closing(peer.open()) as session:
        for value in range(NUM_SAID):
            peer.say(float(value))
        time.sleep(1.05)  # Keep-alive is a second: with the first message a ping goes out.
        found = seen(session.read(timeout_s=1e-6))
        session.receipt()
        time.sleep(1.05)
        found += read_until(session, lambda found: len(found) >= NUM_SAID - 1)
    assert [each.value for each in found] == [float(value) for value in range(NUM_SAID)]


def test_a_slow_broker_has_its_time_for_each_grant(peer: JsonPeer) -> None:
    assert isinstance(peer.device, MqttJsonDevice)
    (rule,) = peer.device.rules
    rules = tuple(rule.model_copy(update={"topic": f"line{n}/+/state"}) for n in range(8))
    with slow_way(peer.server.port, 0.2) as way:
        # (Eight grants take longer than one may.)
        with closing(opened(peer, way.port, rules=rules, timeout_s=0.8)) as session:
            assert session.units == {}
        with pytest.raises(DeviceUnavailableError, match="did not"):
            opened(peer, way.port, rules=rules, timeout_s=0.1)


def test_what_waits_is_read_although_not_everything_is_granted_yet(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()):
        pass
    for value in range(NUM_SAID):
        peer.say(float(value))
    monkeypatch.setattr(connectors.mqtt.session, "MAX_WAITING_BYTES", 100)
    with closing(peer.open()) as session:
        assert session._asked, "it did not wait for the grant behind all messages"
        assert values_of(session, NUM_SAID) == [float(value) for value in range(NUM_SAID)]
        session.receipt()
        session.read(timeout_s=0.1)
        assert not session._asked


def test_a_quality_that_is_not_good_comes_through_the_broker(peer: JsonPeer) -> None:
    with closing(peer.open()) as session:
        peer.say(20.0, is_ok=False)
        peer.say(30.0)
        found = read_until(session, lambda found: len(found) >= 2)
    assert [each.quality for each in found] == [Quality.BAD, Quality.GOOD]


def test_a_sparkplug_nodes_bad_quality_and_its_death_come_through_the_broker(
    tmp_path: Path,
) -> None:
    node = SparkplugPeer(tmp_path)
    node.start()
    try:
        with closing(node.open()) as session:
            read_until(session, bool)
            for code in (0, 500, 192):
                node.say(20.0, quality=code)
            # (A busy machine may ask the node to be born twice: that value is another one.)
            found = read_until(session, lambda found: sum(f.value == 20.0 for f in found) >= 3)
            said = [each.quality for each in found if each.value == 20.0]
            assert said == [Quality.BAD, Quality.STALE, Quality.GOOD]
            node.die()
            (last,) = read_until(session, bool)
            assert last.quality is Quality.STALE
    finally:
        node.stop()
