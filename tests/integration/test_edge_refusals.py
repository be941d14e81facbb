"""Peers that say no: a wrong password is told as such, and never shown."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.mqtt import JsonRules, MqttSession, SparkplugHost
from fusion.errors import DeviceRefusedError
from fusion.plant.devices import Login, MqttJsonDevice, SparkplugDevice
from tests.peers.influx import InfluxPeer
from tests.peers.mqtt import JsonPeer, Mosquitto, SparkplugPeer, connected, require_mosquitto
from tests.peers.peer import CLOCK, read_until
from tests.peers.rtsp import RtspPeer

pytestmark = pytest.mark.xdist_group("devices")
LOGIN = Login(username="fusion", password_env="PEER_PASSWORD")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    require_mosquitto()
    folder = tmp_path_factory.mktemp("mosquitto")
    users = folder / "users"
    command = ["mosquitto_passwd", "-b", "-c", str(users), "fusion", "right"]
    subprocess.run(command, check=True)
    broker = Mosquitto(folder, users, login=("fusion", "right"))
    broker.start()
    yield broker
    broker.stop()


def opened(broker: Mosquitto, folder: Path, password: str) -> MqttSession:
    device = JsonPeer(folder).device
    assert isinstance(device, MqttJsonDevice)
    device = device.model_copy(update={"port": broker.port, "login": LOGIN})
    return MqttSession(device, JsonRules(device), clock=CLOCK, password=SecretStr(password))


def test_a_broker_refuses_a_wrong_password(guarded: Mosquitto, tmp_path: Path) -> None:
    with pytest.raises(DeviceRefusedError) as raised:
        opened(guarded, tmp_path, "wrong-and-secret")
    assert "wrong-and-secret" not in str(raised.value)
    assert "password" in str(raised.value)


def test_a_broker_refuses_a_sparkplug_host_too(guarded: Mosquitto, tmp_path: Path) -> None:
    device = SparkplugPeer(tmp_path).device
    assert isinstance(device, SparkplugDevice)
    device = device.model_copy(update={"port": guarded.port, "login": LOGIN})
    host = SparkplugHost(device, clock=CLOCK)
    with pytest.raises(DeviceRefusedError, match="password"):
        MqttSession(device, host, clock=CLOCK, password=SecretStr("wrong"))


def test_a_broker_takes_the_right_one(guarded: Mosquitto, tmp_path: Path) -> None:
    with closing(opened(guarded, tmp_path, "right")) as session:
        client = connected(guarded.port, "sensor", ("fusion", "right"))
        said = b'{"stamp": 1767225600000000000, "ok": true, "data": {"level": 12.5}}'
        client.publish("line1/a/state", said, qos=1).wait_for_publish(10)
        assert read_until(session, bool)[0].value == 12.5
        client.disconnect()
        client.loop_stop()


def test_sound_is_refused_with_a_wrong_password_too(tmp_path: Path) -> None:
    peer = RtspPeer(tmp_path, "sound", login=("viewer", "right"))
    peer.start()
    try:
        with pytest.raises(DeviceRefusedError, match="login"):
            peer.open(password="wrong")
        with closing(peer.open(password="right")) as session:
            read_until(session, bool)
    finally:
        peer.stop()


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspPeer]:
    peer = RtspPeer(tmp_path_factory.mktemp("rtsp"), "camera", login=("viewer", "right"))
    peer.start()
    yield peer
    peer.stop()


def test_a_camera_refuses_a_wrong_password_and_no_message_shows_it(camera: RtspPeer) -> None:
    with pytest.raises(DeviceRefusedError) as raised:
        camera.open(password="wrong-and-secret")
    shown = f"{raised.value} {raised.value.__cause__} {raised.value.__context__}"
    assert "wrong-and-secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert "login" in shown


def test_a_camera_with_the_right_one_says_its_own_time(camera: RtspPeer) -> None:
    session = camera.open(password="right")
    try:
        # GStreamer sends its first RTCP report when it has something to report about.
        read_until(session, lambda _: session._time.is_sent)  # type: ignore[union-attr]
        found = read_until(session, lambda found: len(found) >= 10)
    finally:
        session.close()
    times = [each.t_source_ns for each in found]
    assert times == sorted(times)


def test_a_historian_refuses_a_wrong_password_and_takes_the_right_one(tmp_path: Path) -> None:
    peer = InfluxPeer(tmp_path, login=("reader", "right"))
    peer.start()
    try:
        with pytest.raises(DeviceRefusedError, match="login") as raised:
            peer.open(password="wrong-and-secret")
        assert "wrong-and-secret" not in f"{raised.value} {raised.value.__cause__}"
        with closing(peer.open(password="right")) as session:
            peer.say(12.5)
            assert read_until(session, bool)[0].value == 12.5
    finally:
        peer.stop()
