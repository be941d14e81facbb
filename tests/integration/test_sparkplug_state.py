"""Edge nodes that wait for their primary host learn by STATE when it is there (Sparkplug 3.0.0)."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from connectors.mqtt import MqttSession, SparkplugHost
from fusion.plant.devices import SparkplugDevice
from tests.peers.mqtt import SparkplugPeer, connected, now_ms
from tests.peers.peer import CLOCK, PATIENCE_S, read_until

pytestmark = pytest.mark.xdist_group("devices")
TOPIC = "spBv1.0/STATE/fusion"


@dataclass(frozen=True)
class State:
    is_online: bool
    stamp_ms: int
    qos: int
    is_retained: bool


class Watcher:
    """Sees every STATE as an edge node does."""

    def __init__(self, port: int) -> None:
        self._client = connected(port, "watcher")
        self._said: queue.Queue[State] = queue.Queue()
        self._client.on_message = self._on_message
        # What is said before the broker knows of the subscription would come as a retained message.
        is_subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: is_subscribed.set()
        self._client.subscribe(TOPIC, qos=1)
        assert is_subscribed.wait(PATIENCE_S), "the broker did not acknowledge the subscription"

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        assert set(said) == {"online", "timestamp"}
        self._said.put(State(said["online"], said["timestamp"], message.qos, message.retain))

    def next(self) -> State:
        return self._said.get(timeout=PATIENCE_S)

    def is_quiet(self) -> bool:
        return self._said.empty()

    def say(self, *, is_online: bool) -> None:
        said = json.dumps({"online": is_online, "timestamp": now_ms()})
        self._client.publish(TOPIC, said, qos=1, retain=True).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SparkplugPeer]:
    made = SparkplugPeer(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def watcher(node: SparkplugPeer) -> Iterator[Watcher]:
    made = Watcher(node.server.port)
    yield made
    made.close()


def opened(node: SparkplugPeer) -> MqttSession:
    assert isinstance(node.device, SparkplugDevice)
    device = node.device.model_copy(update={"host_id": "fusion"})
    return MqttSession(device, SparkplugHost(device, clock=CLOCK), clock=CLOCK)


def test_a_host_that_leaves_says_so(node: SparkplugPeer, watcher: Watcher) -> None:
    began_ms = now_ms()
    session = opened(node)
    birth = watcher.next()
    assert (birth.is_online, birth.qos, birth.is_retained) == (True, 1, False)
    node.say(20.0)
    read_until(session, bool)
    session.close()
    death = watcher.next()
    assert (death.is_online, death.qos) == (False, 1)
    assert began_ms <= birth.stamp_ms <= death.stamp_ms <= now_ms()
    late = Watcher(node.server.port)
    kept = late.next()
    late.close()
    assert (kept.is_online, kept.stamp_ms, kept.is_retained) == (False, death.stamp_ms, True)
    session.close()
    time.sleep(0.3)
    assert watcher.is_quiet(), "the will is not said after a goodbye, nor a second one"


def test_the_will_of_a_host_has_the_time_of_its_birth(
    node: SparkplugPeer, watcher: Watcher
) -> None:
    session = opened(node)
    birth = watcher.next()
    time.sleep(0.05)  # (Another time would be another number.)
    socket = session._client.socket()
    assert socket is not None
    socket.close()  # It is gone without a goodbye.
    death = watcher.next()
    assert (birth.is_online, death.is_online) == (True, False)
    assert death.stamp_ms == birth.stamp_ms
    session.close()


def test_a_host_that_is_there_contradicts_who_says_that_it_is_not(
    node: SparkplugPeer, watcher: Watcher
) -> None:
    watcher.say(is_online=False)  # kept by the broker from an earlier life
    assert not watcher.next().is_online
    session = opened(node)
    birth = watcher.next()
    node.say(20.0)
    read_until(session, bool)
    watcher.say(is_online=False)
    assert not watcher.next().is_online
    node.say(30.0)
    read_until(session, bool)
    again = watcher.next()
    assert (again.is_online, again.stamp_ms) == (True, birth.stamp_ms)
    session.close()
    assert not watcher.next().is_online
    assert watcher.is_quiet()


def test_the_broker_keeps_no_session_of_a_host(node: SparkplugPeer) -> None:
    session = opened(node)
    name = session._client._client_id.decode()
    session.close()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    was_kept: queue.Queue[bool] = queue.Queue()
    client.on_connect = lambda _client, _data, flags, *_: was_kept.put(flags.session_present)
    client.connect("127.0.0.1", node.server.port)
    client.loop_start()
    assert was_kept.get(timeout=PATIENCE_S) is False
    client.disconnect()
    client.loop_stop()
