"""MQTT over TLS with a certificate on both sides, against mosquitto."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.mqtt import JsonRules, MqttSession
from fusion.errors import DeviceRefusedError, DeviceUnavailableError, InputError
from fusion.plant.devices import MqttJsonDevice, Tls
from tests.peers.certificates import Authority
from tests.peers.mqtt import JsonPeer, Mosquitto, connected
from tests.peers.peer import CLOCK, read_until

pytestmark = pytest.mark.xdist_group("devices")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("certificates"))
    for name in ("server", "edge"):
        made.issue(name)
    return made


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("mosquitto"), certificates=authority.file.parent)
    made.start()
    yield made
    made.stop()


def opened(broker: Mosquitto, folder: Path, **tls: Any) -> MqttSession:
    device = JsonPeer(folder).device
    assert isinstance(device, MqttJsonDevice)
    device = device.model_copy(update={"port": broker.port, "tls": Tls(**tls)})
    return MqttSession(device, JsonRules(device), clock=CLOCK)


def own(authority: Authority) -> dict[str, Path]:
    folder = authority.file.parent
    return {"certificate_file": folder / "edge.pem", "key_file": folder / "edge-key.pem"}


def test_a_message_comes_over_tls(broker: Mosquitto, authority: Authority, tmp_path: Path) -> None:
    with closing(opened(broker, tmp_path, ca_file=authority.file, **own(authority))) as session:
        client = connected(broker.port, "sensor", certificates=authority.file.parent)
        for level in range(100):
            said = {"stamp": time.time_ns(), "ok": True, "data": {"level": level}}
            client.publish("line1/a/state", json.dumps(said), qos=1)
        found = read_until(session, lambda found: len(found) >= 100)
        session.receipt()
        client.disconnect()
        client.loop_stop()
    assert [each.value for each in found] == [float(level) for level in range(100)]


def test_a_broker_that_another_authority_signed_is_refused(
    broker: Mosquitto, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(DeviceRefusedError, match="its certificate is not trusted"):
        opened(broker, tmp_path, ca_file=stranger.file, **own(authority))
    with pytest.raises(DeviceRefusedError, match="its certificate is not trusted"):
        opened(broker, tmp_path, **own(authority))  # by the system's authorities


def test_a_broker_refuses_who_has_no_certificate_or_a_strangers(
    broker: Mosquitto, authority: Authority, tmp_path: Path
) -> None:
    # (A DeviceRefusedError, unless the reason is lost with the connection.)
    with pytest.raises(DeviceUnavailableError, match="certificate_file"):
        opened(broker, tmp_path, ca_file=authority.file)
    certificate, key = Authority(tmp_path, "stranger").issue("edge")
    with pytest.raises(DeviceUnavailableError, match="certificate_file"):
        opened(broker, tmp_path, ca_file=authority.file, certificate_file=certificate, key_file=key)


def test_files_that_are_no_certificates_are_explained(
    broker: Mosquitto, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="must name readable PEM files"):
        opened(broker, tmp_path, ca_file=tmp_path / "nowhere.pem")
    files = own(authority) | {"key_file": authority.file}
    with pytest.raises(InputError, match="must name readable PEM files"):
        opened(broker, tmp_path, ca_file=authority.file, **files)
