"""A device's process that is killed loses nothing that MQTT brought it with QoS 1.

A message is acknowledged when what it says is with the product's broker or on disk. What was not
acknowledged, the MQTT broker sends again.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest
import yaml

from flows import wiring
from flows.edge import Edge, device_command
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import Envelope, TelemetryBatch
from fusion.schema.codec import decode_payload
from tests.peers.mqtt import Mosquitto, NumberedSensor
from tests.peers.peer import plant_with

RATE_HZ = 200.0
NUM_KILLS = 3
PATIENCE_S = 60.0


def make_plant(port: int) -> Plant:
    stream = {
        "name": "process",
        "modality": "telemetry",
        "rate_hz": RATE_HZ,
        "tags": [{"name": "level", "unit": "1", "range": [0, 1e6]}],
    }
    value = {"stream": "process", "tag": "level", "path": "number"}
    rule = {"topic": "line", "time": "t", "time_unit": "ns", "values": [value]}
    device = {"name": "gateway", "protocol": "mqtt-json", "host": "127.0.0.1", "port": port}
    return plant_with(stream, [device | {"rules": [rule]}])


def numbers_on_the_broker(plant: Plant, settings: Settings) -> list[int]:
    found: list[int] = []
    for record in wiring.read_topic(settings, plant, "telemetry"):
        batch = decode_payload(Envelope.from_headers(record.headers), record.value)
        assert isinstance(batch, TelemetryBatch)
        found += [int(number) for number in batch.values_RC[:, 0]]
    return found


def test_a_killed_process_loses_nothing_of_mqtt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mosquitto = Mosquitto(tmp_path)
    mosquitto.start()
    plant = make_plant(mosquitto.port)
    plant_file = tmp_path / "plant.yaml"
    plant_file.write_text(yaml.safe_dump(plant.model_dump(mode="json", exclude_none=True)))
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path / "out"))
    monkeypatch.setenv("FUSION_BROKER", "embedded")
    settings = Settings.load()
    states: list[str] = []
    edge = Edge(
        plant,
        [],
        command=device_command(plant_file),
        clock=wiring.open_clock(),
        tell=lambda _device, state, _why: states.append(state),
    )
    sensor: NumberedSensor | None = None

    def step_until_connected(times: int) -> None:
        t_end_s = time.monotonic() + PATIENCE_S
        while states.count("connected") < times:
            assert time.monotonic() < t_end_s, states
            edge.step(0.1)

    try:
        with contextlib.closing(edge):
            step_until_connected(1)  # from now on the broker keeps what is said for us
            sensor = NumberedSensor(mosquitto.port, "line", RATE_HZ)
            for kill in range(NUM_KILLS):
                t_end_s = time.monotonic() + 2
                while time.monotonic() < t_end_s:
                    edge.step(0.1)
                (process,) = [
                    each
                    for each in psutil.Process().children()
                    if "flows.edge_device" in each.cmdline()
                ]
                process.kill()
                step_until_connected(kill + 2)
            sensor.stop()
            num_said = sensor.num_said
            t_end_s = time.monotonic() + PATIENCE_S
            while num_said - 1 not in numbers_on_the_broker(plant, settings):
                assert time.monotonic() < t_end_s
                edge.step(0.5)
    finally:
        if sensor is not None:
            sensor.stop()
        mosquitto.stop()
    came = numbers_on_the_broker(plant, settings)
    again = len(came) - len(set(came))
    print(f"{num_said} said, {again} came again, {NUM_KILLS} kills")  # noqa: T201 (pytest -s)
    assert sorted(set(range(num_said)) - set(came)) == []
