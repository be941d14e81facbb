"""A real Apache Kafka is killed and comes back while a sender goes on at its pace."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.schema import Message
from fusion.stream.reading import read_to_end
from fusion.stream.spool import SpoolingPublisher
from tests.conftest import ROOT
from tests.own_kafka import OwnKafka, kafka_to_kill

# kafka-python leaves the sockets of connections that never were to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.timeout(900),
]

PERIOD_S = 0.1
NUM_BURST = 60
BURST_BYTES = 2_500_000
MAX_GROWTH_BYTES = 80 * 1024 * 1024
"""Over half of the burst stays out of memory; what is in it is one bundle, sent and compressed."""


@pytest.fixture
def own_kafka(kafka_bootstrap: str, tmp_path: Path) -> Iterator[OwnKafka]:
    assert kafka_bootstrap, "Kafka is installed where the shared one runs"
    with kafka_to_kill(tmp_path) as made:
        yield made


def make_plant(folder: Path, prefix: str) -> Path:
    content = yaml.safe_load((ROOT / "plants" / "rig.yaml").read_text())
    content["prefix"] = prefix
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class PacedSender:
    """Sends numbered messages of one key, whatever happens, and numbers on over restarts."""

    def __init__(self, settings: Settings, plant: Plant) -> None:
        self.settings = settings
        self.plant = plant
        self.num_sent = 0
        self.open()

    def open(self) -> None:
        sender = wiring.open_sender(self.settings, self.plant, source="test")
        assert isinstance(sender, SpoolingPublisher)
        self.spool = sender

    def send(self, *, num_bytes: int = 200) -> None:
        value = os.urandom(num_bytes)
        headers = {"seq": str(self.num_sent)}
        message = Message(self.plant.topic("telemetry"), str(self.plant.address), value, headers)
        self.spool.publish([message])
        self.num_sent += 1

    def send_for(self, count: int) -> None:
        for _ in range(count):
            self.send()
            time.sleep(PERIOD_S)


def test_a_broker_killed_in_the_middle_costs_nothing(
    own_kafka: OwnKafka, tmp_path: Path, unique: str
) -> None:
    settings = Settings(
        broker="kafka", kafka_bootstrap=own_kafka.bootstrap, data_dir=tmp_path / "data"
    )
    plant = load_plant(make_plant(tmp_path, unique))
    # The sender is there before the broker, and its topics before anybody made them.
    sender = PacedSender(settings, plant)
    sender.send_for(10)
    assert sender.spool.waiting_records == 10
    assert own_kafka.start().wait(120) == 0
    assert sender.spool.flush(120)
    sender.send_for(20)
    assert sender.spool.waiting_records == 0

    own_kafka.kill()
    sender.send_for(20)
    assert sender.spool.waiting_records >= 19
    before_bytes = psutil.Process().memory_info().rss
    for _ in range(NUM_BURST):
        sender.send(num_bytes=BURST_BYTES)
    assert psutil.Process().memory_info().rss - before_bytes < MAX_GROWTH_BYTES
    with pytest.raises(InputError, match="one process at a time"):
        wiring.open_sender(settings, plant, source="test")
    sender.spool.close()
    sender.open()
    assert sender.spool.waiting_bytes > NUM_BURST * BURST_BYTES

    starting = own_kafka.start()
    while starting.poll() is None:
        sender.send_for(1)
    assert starting.returncode == 0
    sender.send_for(20)
    assert sender.spool.flush(240), sender.spool.last_error
    sender.send_for(5)
    assert sender.spool.flush(60)
    assert sender.spool.waiting_records == 0
    assert psutil.Process().memory_info().rss - before_bytes < MAX_GROWTH_BYTES
    sender.spool.close()

    source = wiring.open_source(settings, (plant.topic("telemetry"),), "reads")
    with contextlib.closing(source):
        numbers = [int(record.headers["seq"]) for record in read_to_end(source)]
    assert list(dict.fromkeys(numbers)) == list(range(sender.num_sent))
    # Now, while the mark of this module holds.
    gc.collect()


def test_ctrl_c_leaves_the_rest_on_disk_for_the_next_command(
    own_kafka: OwnKafka, tmp_path: Path, unique: str
) -> None:
    plant_file = make_plant(tmp_path, unique)
    environment = own_kafka.environment | {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": own_kafka.bootstrap,
        "FUSION_DATA_DIR": str(tmp_path / "data"),
    }

    def fusion(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    simulate = ("simulate", str(plant_file), "--minutes", "0.2")
    interrupted = fusion(*simulate)
    spool = tmp_path / "data" / "spool" / f"{unique}-simulator.sqlite"
    settings = Settings(broker="kafka", data_dir=tmp_path / "data")
    num_waiting = 0
    while not num_waiting or num_waiting != count_waiting(settings, spool):
        num_waiting = count_waiting(settings, spool)
        time.sleep(2.0)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert f"{num_waiting} records" in said
    assert "the next run, or `fusion spool send`, sends them first" in " ".join(said.split())

    shown = fusion("spool", "show")
    assert f" {num_waiting} " in shown.communicate(timeout=60)[1]
    assert own_kafka.start().wait(120) == 0
    # The next run makes the topics and sends what waited first; then nothing is left to send.
    again = fusion(*simulate, "--after-minutes", "1")
    assert again.wait(120) == 0, again.communicate()[1]
    assert again.communicate()[1]
    sent = fusion("spool", "send")
    assert "0 records wait" in sent.communicate(timeout=60)[1]
    assert sent.returncode == 0
    plant = load_plant(plant_file)
    settings = Settings(broker="kafka", kafka_bootstrap=own_kafka.bootstrap)
    topics = (*plant.sense_topics, plant.topic("schemas"))
    with contextlib.closing(wiring.open_source(settings, topics, "reads")) as source:
        records = list(read_to_end(source))
    # Every run says first what it writes with, and that waits with the rest.
    assert len(records) == 2 * num_waiting
    assert len({each.headers["epoch"] for each in records if "epoch" in each.headers}) == 2


def count_waiting(settings: Settings, spool: Path) -> int:
    """Return how many records wait in the file ``spool``; 0 while it is not there."""
    if not spool.exists():
        return 0
    with contextlib.closing(wiring.open_spool_source(settings, spool.stem)) as source:
        return len(list(read_to_end(source)))
