"""Whatever bytes a broker sends, the connection ends or goes on, and nothing else happens."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from connectors.mqtt import JsonRules, MqttSession
from connectors.mqtt.client import MAX_PACKET_BYTES, BoundedClient
from fusion.errors import DeviceUnavailableError
from fusion.plant.devices import MqttJsonDevice
from fusion.ports import Observed
from tests.peers.peer import CLOCK

CONNACK_5 = b"\x20\x03\x00\x00\x00"
SUBACK_5 = b"\x90\x04\x00\x01\x00\x01"
SAID = b'{"level": 12.5}'
PUBLISH_5 = b"\x32" + bytes([2 + 1 + 2 + 1 + len(SAID)]) + b"\x00\x01t\x00\x07\x00" + SAID
CHUNK_BYTES = 65_536
MOST_BYTES = 4 * MAX_PACKET_BYTES


class HostileBroker:
    """Lets everybody in, and says to each what a test wants."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.says: Iterator[bytes] = iter(())
        self.num_bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(65_536)
                    client.sendall(CONNACK_5)
                    for part in self.says:
                        client.sendall(part)
                        self.num_bytes += len(part)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[HostileBroker]:
    made = HostileBroker()
    yield made
    made.close()


def opened(broker: HostileBroker, says: Iterator[bytes], **changed: object) -> MqttSession:
    rule = {"topic": "t", "values": [{"stream": "s", "tag": "a", "path": "level"}]}
    told = {"name": "json", "protocol": "mqtt-json", "host": "127.0.0.1", "port": broker.port}
    device = MqttJsonDevice.model_validate(told | {"rules": [rule]} | changed)
    broker.says, broker.num_bytes = says, 0
    return MqttSession(device, JsonRules(device), clock=CLOCK)


def read_all(broker: HostileBroker, says: Iterator[bytes]) -> Sequence[Observed]:
    """Return what comes until the connection ends, as in the end it must."""
    found: list[Observed] = []
    with (
        contextlib.suppress(DeviceUnavailableError),
        contextlib.closing(opened(broker, says)) as session,
    ):
        while True:
            found += session.read(timeout_s=1.0)
            session.receipt()
    return found


def test_a_good_broker_is_understood(broker: HostileBroker) -> None:
    (reading,) = read_all(broker, iter([SUBACK_5, PUBLISH_5]))
    assert "12.5" in str(reading)


@settings(deadline=None, max_examples=150)
@example(said=b"\x32\xff\xff\xff\xff")
@example(said=b"\x32\x02\xff\xff")
@example(said=b"\xe0\x00")
@example(said=b"\x34\x07\x00\x01t\x00\x07\x00x")
@given(said=st.binary(max_size=60))
def test_no_bytes_break_it(broker: HostileBroker, said: bytes) -> None:
    read_all(broker, iter([said]))
    read_all(broker, iter([SUBACK_5, said]))


@settings(deadline=None, max_examples=150)
@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_no_damage_to_what_is_right_breaks_it(broker: HostileBroker, at: int, byte: int) -> None:
    said = bytearray(SUBACK_5 + PUBLISH_5)
    said[at % len(said)] = byte
    read_all(broker, iter([bytes(said)]))


@given(
    topic=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
    payload=st.binary(max_size=300),
    qos=st.sampled_from([0, 1]),
    is_retained=st.booleans(),
    notes=st.lists(st.text(alphabet="abc", max_size=80), max_size=6),
    version=st.sampled_from([MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311]),
)
def test_a_message_is_decoded_as_paho_decodes_it(
    *,
    topic: str,
    payload: bytes,
    qos: int,
    is_retained: bool,
    notes: list[str],
    version: MQTTProtocolVersion,
) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    if notes:
        properties.UserProperty = [("note", note) for note in notes]
    said = topic.encode()
    packet = struct.pack(">H", len(said)) + said + (b"\x01\x02" if qos else b"")
    packet += properties.pack() if version == MQTTProtocolVersion.MQTTv5 else b""
    command = 0x30 | qos << 1 | is_retained
    client = BoundedClient(CallbackAPIVersion.VERSION2, protocol=version)
    client._in_packet.update(
        command=command,
        packet=bytearray(packet + payload),
        remaining_length=len(packet + payload),
    )
    slowly = decode_publish(command, packet + payload, version)
    came = client._decoded()
    assert came is not None
    assert (came.topic, came.payload) == (slowly.topic, slowly.payload) == (said, payload)
    assert (came.qos, came.number, came.is_retained) == (slowly.qos, slowly.mid, slowly.retain)


def test_a_packet_that_is_no_message_may_not_be_long_at_all(broker: HostileBroker) -> None:
    giant = b"\x90\xff\xff\xff\x7f"  # an answer to a subscription of 256 MB
    read_all(broker, itertools.chain([giant], itertools.repeat(bytes(CHUNK_BYTES), 4_000)))
    assert broker.num_bytes < MOST_BYTES


def talk(until: threading.Event) -> Iterator[bytes]:
    """Yield a message twenty times a second; for 20 s, should nobody set ``until``."""
    for _ in range(400):
        if until.is_set():
            return
        yield PUBLISH_5
        time.sleep(0.05)


def test_a_grant_that_is_late_is_awaited_while_other_topics_are_read(broker: HostileBroker) -> None:
    is_open, is_over = threading.Event(), threading.Event()
    says = itertools.chain(talk(is_open), [SUBACK_5], talk(is_over))
    with contextlib.closing(opened(broker, says, timeout_s=1.0)) as session:
        assert session._asked, "nothing was granted yet"
        is_open.set()
        found: list[Observed] = []
        while session._asked or not found:
            found += session.read(timeout_s=0.1)
        is_over.set()
    assert "12.5" in str(found[0])


def test_a_grant_that_never_comes_is_noticed_while_other_topics_talk(
    broker: HostileBroker,
) -> None:
    is_over = threading.Event()
    found: list[Observed] = []

    def read_on(session: MqttSession) -> None:
        while True:
            found.extend(session.read(timeout_s=0.1))

    with contextlib.closing(opened(broker, talk(is_over), timeout_s=0.5)) as session:
        with pytest.raises(DeviceUnavailableError, match="did not grant the subscriptions"):
            read_on(session)
        is_over.set()
    assert "12.5" in str(found[0])


def test_a_grant_behind_messages_that_were_not_read_yet_is_not_late(broker: HostileBroker) -> None:
    is_open, is_over = threading.Event(), threading.Event()
    says = itertools.chain(talk(is_open), [PUBLISH_5 * 5, SUBACK_5], talk(is_over))
    with contextlib.closing(opened(broker, says, timeout_s=1.0)) as session:
        is_open.set()
        session._grants_left_s = 0.0
        while not session._is_unread():
            time.sleep(0.01)
        while session._asked:
            session.read(timeout_s=1e-6)
        is_over.set()


def test_the_topics_of_messages_that_wait_are_counted(broker: HostileBroker) -> None:
    topic = b"t" * 60_000
    num_bytes = 2 + len(topic) + 2 + 1 + len(SAID)
    length = bytes([num_bytes & 0x7F | 0x80, num_bytes >> 7 & 0x7F | 0x80, num_bytes >> 14])
    said = b"\x32" + length + struct.pack(">H", len(topic)) + topic + b"\x00\x07\x00" + SAID
    is_over = threading.Event()
    says = itertools.chain([said + SUBACK_5], talk(is_over))
    with contextlib.closing(opened(broker, says)) as session:
        assert session._waiting_bytes >= len(topic)
        session.read(timeout_s=0.1)
        while session._came:
            session.read(timeout_s=0.1)
        assert session._waiting_bytes == 0
        is_over.set()
