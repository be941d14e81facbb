"""`fusion edge run` and its processes: files in, records on the broker, once each."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml

from flows import wiring
from flows.edge import Edge, device_command
from flows.settings import Settings
from fusion.plant import Plant, parse_plant
from fusion.schema import DeviceHealth, Envelope, TelemetryBatch
from fusion.schema.codec import decode_payload
from tests.peers.folders import FolderPeer
from tests.peers.peer import plant_with


def values_on_the_broker(plant: Plant, settings: Settings) -> list[float]:
    found: list[float] = []
    for record in wiring.read_topic(settings, plant, "telemetry"):
        batch = decode_payload(Envelope.from_headers(record.headers), record.value)
        assert isinstance(batch, TelemetryBatch)
        found += batch.values_RC[:, 0].tolist()
    return found


def test_files_reach_the_broker_once_also_when_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = FolderPeer(tmp_path, "csv")
    peer.start()
    device = peer.device.model_dump(mode="json") | {"watch": False}
    plant = plant_with(peer.plant.streams[0].model_dump(mode="json"), [device])
    plant_file = tmp_path / "plant.yaml"
    plant_file.write_text(yaml.safe_dump(plant.model_dump(mode="json")), encoding="utf-8")
    assert parse_plant(plant_file.read_text(), origin="") == plant
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path / "out"))
    monkeypatch.setenv("FUSION_BROKER", "embedded")
    settings = Settings.load()
    told: list[tuple[str, str, str]] = []

    def run() -> None:
        """Do what the command does, without the half minute that importing all commands takes."""
        edge = Edge(
            plant,
            [],
            command=device_command(plant_file),
            clock=wiring.open_clock(),
            tell=lambda *what: told.append(what),
        )
        with contextlib.closing(edge):
            while edge.step(0.1):
                pass

    peer.say(10.0)
    peer.say(20.0)
    run()
    assert told[-1] == ("files", "ended", "")
    assert values_on_the_broker(plant, settings) == [10.0, 20.0]
    peer.say(30.0)
    run()
    assert values_on_the_broker(plant, settings) == [10.0, 20.0, 30.0]
    (*_, last) = wiring.read_topic(settings, plant, "stream-health")
    health = DeviceHealth.model_validate_json(last.value)
    assert (health.device, health.state, health.streams[0].values) == ("files", "ended", 1)
