"""Debian's mosquitto, and what publishes through it: JSON, and a Sparkplug B edge node."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from connectors.mqtt import JsonRules, MqttSession, SparkplugHost
from connectors.mqtt.sparkplug_pb2 import Payload
from fusion.plant.devices import Device, MqttJsonDevice, SparkplugDevice
from tests.conftest import IS_CI, free_port
from tests.peers.peer import CLOCK, TELEMETRY, plant_with

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def require_mosquitto() -> None:
    """Skip where it cannot be had; in CI it must be there (deploy/prepare-tests.sh)."""
    if not Path(MOSQUITTO).is_file():
        assert not IS_CI
        pytest.skip("mosquitto is not installed; deploy/prepare-tests.sh does it")


class Mosquitto:
    """A broker on a free port; with ``password_file`` only its users may come in.

    With ``certificates``, it speaks TLS and wants a certificate that ``ca.pem`` there has signed.
    """

    def __init__(
        self,
        folder: Path,
        password_file: Path | None = None,
        login: tuple[str, str] | None = None,
        port: int | None = None,
        certificates: Path | None = None,
    ) -> None:
        require_mosquitto()
        self._login = login
        self._certificates = certificates
        self.port = free_port() if port is None else port
        self._config = folder / "mosquitto.conf"
        access = (
            "allow_anonymous true"
            if password_file is None
            else f"allow_anonymous false\npassword_file {password_file}"
        )
        if certificates is not None:
            access += (
                f"\ncafile {certificates / 'ca.pem'}\ncertfile {certificates / 'server.pem'}"
                f"\nkeyfile {certificates / 'server-key.pem'}\nrequire_certificate true"
            )
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{access}\npersistence false\n"
            "user root\nmax_queued_messages 100000\nlog_dest none\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)])
        t_end_s = time.monotonic() + 20
        while True:
            try:
                client = connected(self.port, "probe", self._login, self._certificates)
                break
            except OSError:
                assert time.monotonic() < t_end_s
                assert self._process.poll() is None
                time.sleep(0.05)
        client.disconnect()
        client.loop_stop()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def connected(
    port: int,
    name: str,
    login: tuple[str, str] | None = None,
    certificates: Path | None = None,
) -> paho.Client:
    """Return a client of our own, whose loop runs."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.max_inflight_messages_set(1_000)
    if certificates is not None:
        certificate, key = certificates / "edge.pem", certificates / "edge-key.pem"
        client.tls_set(str(certificates / "ca.pem"), str(certificate), str(key))
    if login is not None:
        client.username_pw_set(*login)
    client.connect("127.0.0.1", port)
    client.loop_start()
    t_end_s = time.monotonic() + 10
    while not client.is_connected():
        assert time.monotonic() < t_end_s
        time.sleep(0.01)
    return client


class NumberedSensor:
    """Publishes ``{"t": nanoseconds, "number": 0, 1, ...}`` at a steady pace from the start on.

    ``t`` is when a number was due: a machine that is busy makes it late, not its time wrong.
    """

    def __init__(self, port: int, topic: str, rate_hz: float) -> None:
        self._client = connected(port, "sensor")
        self._topic, self._rate_hz = topic, rate_hz
        self._is_over = threading.Event()
        self.num_said = 0
        self._thread = threading.Thread(target=self._say)
        self._thread.start()

    def stop(self) -> None:
        """Say no more; what was said is with the broker. A second time does nothing."""
        if not self._is_over.is_set():
            self._is_over.set()
            self._thread.join()
            self._client.publish(f"{self._topic}/over", b"", qos=1).wait_for_publish(30)
            self._client.disconnect()
            self._client.loop_stop()

    def _say(self) -> None:
        began_s, began_ns = time.monotonic(), time.time_ns()
        while not self._is_over.wait(
            max(0.0, began_s + self.num_said / self._rate_hz - time.monotonic())
        ):
            due_ns = began_ns + round(self.num_said / self._rate_hz * 1e9)
            said = {"t": due_ns, "number": self.num_said}
            sent = self._client.publish(self._topic, json.dumps(said), qos=1)
            self.num_said += 1
            if self.num_said % 10 == 0:
                sent.wait_for_publish(30)


class JsonPeer:
    """A sensor that publishes JSON."""

    def __init__(self, folder: Path) -> None:
        self.ahead_s = 0.0
        self.server = Mosquitto(folder)
        rule = {
            "topic": "line1/+/state",
            "time": "stamp",
            "time_unit": "ns",
            "quality": "ok",
            "values": [{"stream": "process", "tag": "level", "path": "data.level"}],
        }
        told = {"host": "127.0.0.1", "port": self.server.port, "keepalive_s": 1, "timeout_s": 2}
        device = {"name": "broker", "protocol": "mqtt-json", "rules": [rule]} | told
        self.plant = plant_with(TELEMETRY, [device])
        self.device: Device = self.plant.devices[0]
        self._client: paho.Client | None = None

    def open(self, position: str | None = None, password: str | None = None) -> MqttSession:
        assert isinstance(self.device, MqttJsonDevice)
        secret = None if password is None else SecretStr(password)
        return MqttSession(self.device, JsonRules(self.device), clock=CLOCK, password=secret)

    def start(self) -> None:
        self.server.start()
        self._client = connected(self.server.port, "sensor")

    def stop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
        self.server.stop()

    def say(self, value: float, *, is_ok: bool = True) -> None:
        stamp = time.time_ns() + round(self.ahead_s * 1e9)
        said = {"stamp": stamp, "ok": is_ok, "data": {"level": value}}
        self.publish("line1/tank/state", json.dumps(said).encode())

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert self._client is not None
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)


class SparkplugPeer:
    """An edge node that is born, says changes by alias, is asked for rebirths, and dies."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.ahead_s = 0.0
        self.server = Mosquitto(folder, port=port)
        metric = {"stream": "process", "tag": "level", "node": "press", "metric": "Tank/Level"}
        told = {"host": "127.0.0.1", "port": self.server.port, "keepalive_s": 1, "timeout_s": 2}
        device = {"name": "sparkplug", "protocol": "sparkplug", "group": "plant", "rebirth_s": 1}
        self.plant = plant_with(TELEMETRY, [device | told | {"metrics": [metric]}])
        self.device: Device = self.plant.devices[0]
        self._client: paho.Client | None = None
        self.value = 0.0
        self.seq = 0
        self.num_births = 0
        self.birth_seq = 0

    def open(self, position: str | None = None) -> MqttSession:
        assert isinstance(self.device, SparkplugDevice)
        host = SparkplugHost(self.device, clock=CLOCK)
        num_births = self.num_births
        session = MqttSession(self.device, host, clock=CLOCK)
        # What a node says before it is born again, nobody can understand.
        t_end_s = time.monotonic() + 10
        while self.num_births == num_births:
            assert time.monotonic() < t_end_s
            time.sleep(0.01)
        return session

    def start(self) -> None:
        self.server.start()
        self._client = connected(self.server.port, "press")
        self._client.on_message = self._on_command
        is_granted = threading.Event()
        self._client.on_subscribe = lambda *_: is_granted.set()
        self._client.subscribe("spBv1.0/plant/NCMD/press", qos=1)
        assert is_granted.wait(10), "a host that is quick must not ask before the node can hear"
        self.be_born()

    def stop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
        self.server.stop()

    def be_born(self) -> None:
        said = Payload(timestamp=now_ms(), seq=0)
        self.seq = 0
        said.metrics.add(name="bdSeq", datatype=8, long_value=self.birth_seq)
        metric = said.metrics.add(name="Tank/Level", alias=7, datatype=10, timestamp=now_ms())
        metric.double_value = self.value
        self.publish("NBIRTH", said)
        self.num_births += 1

    def say(self, value: float, *, quality: int | None = None) -> None:
        self.value = value
        self.seq = (self.seq + 1) % 256
        stamp_ms = now_ms() + round(self.ahead_s * 1_000)
        said = Payload(timestamp=stamp_ms, seq=self.seq)
        metric = said.metrics.add(alias=7, timestamp=stamp_ms, datatype=10, double_value=value)
        if quality is not None:
            metric.properties.keys.append("Quality")
            metric.properties.values.add(type=3, int_value=quality)
        self.publish("NDATA", said)

    def die(self) -> None:
        said = Payload(timestamp=now_ms())
        said.metrics.add(name="bdSeq", datatype=8, long_value=self.birth_seq)
        self.publish("NDEATH", said)

    def publish(self, kind: str, said: Payload) -> None:
        assert self._client is not None
        sent = self._client.publish(
            f"spBv1.0/plant/{kind}/press", said.SerializeToString(), qos=1 if kind != "NDATA" else 0
        )
        del sent  # (waiting here would wait for this client's own thread when it answers)

    def _on_command(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        said = Payload()
        said.ParseFromString(bytes(message.payload))
        if said.metrics[0].name == "Node Control/Rebirth" and said.metrics[0].boolean_value:
            self.be_born()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
