"""The broker is killed under a running edge and comes back: every record arrives, in order, once.

Ten minutes of one stream at ten records a second are 6,000 records. Here ten streams make as many
in one minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from flows import wiring
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import DeviceHealth, Envelope, Quality, TelemetryBatch
from fusion.schema.codec import decode_payload
from tests.conftest import ROOT
from tests.own_kafka import OwnKafka, kafka_to_kill
from tests.peers.mqtt import Mosquitto, NumberedSensor

# kafka-python leaves the sockets of connections that never were to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.timeout(900),
]

NUM_STREAMS, RATE_HZ = 10, 10.0
BEFORE_S, AWAY_S, AFTER_S = 10.0, 60.0, 10.0
PATIENCE_S = 240.0
MAX_GROWTH_BYTES = 60 * 1024 * 1024
"""Of all processes of the edge together; what waits is some 6,000 records of 1 kB, on disk."""


@pytest.fixture
def own_kafka(kafka_bootstrap: str, tmp_path: Path) -> Iterator[OwnKafka]:
    assert kafka_bootstrap, "Kafka is installed where the shared one runs"
    with kafka_to_kill(tmp_path) as made:
        yield made


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def make_plant(prefix: str, port: int) -> Plant:
    """Return ten streams of one tag, all in one message of one MQTT device."""
    values = [{"stream": f"s{n}", "tag": f"level{n}", "path": "number"} for n in range(NUM_STREAMS)]
    rule = {"topic": "line", "time": "t", "time_unit": "ns", "values": values}
    device = {"name": "gateway", "protocol": "mqtt-json", "rules": [rule]}
    return Plant.model_validate(
        {
            "prefix": prefix,
            "address": dict.fromkeys(
                ("enterprise", "site", "area", "line", "cell", "asset"), "test"
            ),
            "streams": [
                {
                    "name": f"s{n}",
                    "modality": "telemetry",
                    "rate_hz": RATE_HZ,
                    "tags": [{"name": f"level{n}", "unit": "1", "range": [0, 1e6]}],
                }
                for n in range(NUM_STREAMS)
            ],
            "devices": [device | {"host": "127.0.0.1", "port": port}],
        }
    )


@contextlib.contextmanager
def edge_run(plant: Plant, settings: Settings, folder: Path) -> Iterator[psutil.Process]:
    """Run the real command; it must end well when it is asked to."""
    plant_file = folder / "plant.yaml"
    plant_file.write_text(yaml.safe_dump(plant.model_dump(mode="json", exclude_none=True)))
    environment = os.environ | {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FUSION_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-m", "flows.cli", "edge", "run", str(plant_file)]
    with (folder / "edge.log").open("wb") as log:
        edge = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield psutil.Process(edge.pid)
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(60) == 0, (folder / "edge.log").read_text()
    finally:
        edge.kill()
        edge.wait()


def memory_bytes(edge: psutil.Process) -> int:
    return sum(each.memory_info().rss for each in (edge, *edge.children(recursive=True)))


def records_of(settings: Settings, plant: Plant) -> dict[str, list[tuple[Envelope, list[float]]]]:
    """Return, by stream, envelope and numbers of every record in the broker's order."""
    found: dict[str, list[tuple[Envelope, list[float]]]] = {}
    for record in wiring.read_topic(settings, plant, "telemetry"):
        envelope = Envelope.from_headers(record.headers)
        batch = decode_payload(envelope, record.value)
        assert isinstance(batch, TelemetryBatch)
        assert (batch.quality_RC == Quality.GOOD).all()
        found.setdefault(batch.stream, []).append((envelope, batch.values_RC[:, 0].tolist()))
    return found


def newest_health(settings: Settings, plant: Plant) -> DeviceHealth | None:
    records = list(wiring.read_topic(settings, plant, "stream-health"))
    return DeviceHealth.model_validate_json(records[-1].value) if records else None


def wait_until(is_so: Callable[[], bool], *, every_s: float = 3.0) -> None:
    t_end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < t_end_s
        time.sleep(every_s)


def test_a_broker_that_is_killed_and_comes_back_costs_no_record(
    own_kafka: OwnKafka,
    mosquitto: Mosquitto,
    tmp_path: Path,
    unique: str,
) -> None:
    settings = Settings(
        broker="kafka", kafka_bootstrap=own_kafka.bootstrap, data_dir=tmp_path / "data"
    )
    plant = make_plant(unique, mosquitto.port)
    assert own_kafka.start().wait(120) == 0
    with edge_run(plant, settings, tmp_path) as edge:
        # Topics are made, and the session at the MQTT broker is there to be spoken to.
        wait_until(lambda: "connected" in (tmp_path / "edge.log").read_text())
        sensor = NumberedSensor(mosquitto.port, "line", RATE_HZ)
        try:
            wait_until(lambda: len(records_of(settings, plant)) == NUM_STREAMS)
            time.sleep(BEFORE_S)
            before_bytes = memory_bytes(edge)
            num_before = sensor.num_said
            own_kafka.kill()
            highest_bytes = before_bytes
            t_back_s = time.monotonic() + AWAY_S
            while time.monotonic() < t_back_s:
                time.sleep(1.0)
                highest_bytes = max(highest_bytes, memory_bytes(edge))
            num_away = sensor.num_said - num_before
            spool = settings.spool_folder / f"{unique}-edge-gateway.sqlite"
            spool_bytes = spool.stat().st_size
            assert own_kafka.start().wait(120) == 0
            t_back_s = time.monotonic()
            # What is said now waits behind what was said before.
            time.sleep(AFTER_S)
        finally:
            sensor.stop()
        wait_until(
            lambda: all(
                sum(len(numbers) for _, numbers in records) >= sensor.num_said
                for records in records_of(settings, plant).values()
            )
        )
        caught_up_s = time.monotonic() - t_back_s
        highest_bytes = max(highest_bytes, memory_bytes(edge))
        wait_until(
            lambda: (
                (health := newest_health(settings, plant)) is not None
                and health.t_ns / 1e9 > time.time() - 15
                and health.waiting_records == 0
            )
        )
    assert num_away >= 0.9 * AWAY_S * RATE_HZ, "the load must go on while the broker is away"
    num_records = num_repeated = 0
    for records in records_of(settings, plant).values():
        # A reader knows a repeat by its number; an answer that the kill swallowed may bring one.
        seen: set[tuple[str, int]] = set()
        numbers: list[float] = []
        for envelope, some in records:
            key = (envelope.epoch, envelope.seq)
            num_repeated += key in seen
            if key not in seen:
                numbers += some
            seen.add(key)
        num_records += len(seen)
        assert numbers == [float(number) for number in range(sensor.num_said)]
    assert highest_bytes - before_bytes < MAX_GROWTH_BYTES
    figures = {
        "values": NUM_STREAMS * sensor.num_said,
        "said_while_away": NUM_STREAMS * num_away,
        "records": num_records,
        "repeated_records": num_repeated,
        "caught_up_s": round(caught_up_s, 1),
        "spool_mb": round(spool_bytes / 1e6, 1),
        "memory_before_mb": round(before_bytes / 1e6, 1),
        "memory_highest_mb": round(highest_bytes / 1e6, 1),
    }
    print(figures)  # noqa: T201 what the documents say of it (pytest -s)
