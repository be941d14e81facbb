"""Topics that change under the checkpoints, on a real Kafka: refused, with what to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import yaml
from kafka.admin import KafkaAdminClient

from flows import wiring
from flows.in_service import InService
from flows.live import _Opener, read_checkpoints
from flows.settings import Settings
from fusion.alarms import AlarmEngine
from fusion.errors import TopicMismatchError
from fusion.plant import Plant, StreamSender, parse_plant
from fusion.ports import Source
from fusion.schema import Message, Record, TelemetryBatch, TopicPartition
from fusion.stream.chain import Chain
from fusion.stream.checkpoint import checkpoint_of, homes_of
from fusion.stream.intake import RELEASED, Intake
from fusion.stream.placement import LOOK_AGAIN_S, Homes
from fusion.stream.reading import read_to_end
from fusion.stream.shard import Shard
from tests.clocks import HandClock

NUM_PARTITIONS = 2
PATIENCE_S = 60.0


def make_plant(prefix: str, *, num_partitions: int = NUM_PARTITIONS) -> Plant:
    tags = [{"name": "level", "unit": "m", "range": [0, 1]}]
    stream = {"name": "process", "modality": "telemetry", "rate_hz": 1, "tags": tags}
    names = ("enterprise", "site", "area", "line", "cell", "asset")
    content = {
        "prefix": prefix,
        "address": dict.fromkeys(names, "x"),
        "tick_s": 1,
        "allowed_lateness_s": 1,
        "topics": {"partitions": num_partitions},
        "streams": [stream],
    }
    return parse_plant(yaml.safe_dump(content), origin="plant.yaml")


class NoWindow:
    """Stands for the model: no window is ever full, so nothing is scored."""

    def push(self, _observation: object) -> None:
        return None


def open_chain(_opener: Any, model: Any, live: Any, number: int, newest: Any) -> Chain:
    """Stand for :meth:`flows.live._Opener._open` without a trained model."""
    del live
    plant = model.plant
    intake = Intake(plant, wiring.open_clock(), context_ticks=2, has_unread=lambda _: False)
    scorer = cast("Any", SimpleNamespace(snapshot=dict, restore=lambda _: None))
    chain = Chain(
        plant, "1", intake, cast("Any", NoWindow()), scorer, AlarmEngine(plant), partition=number
    )
    saved = checkpoint_of(plant, newest)
    if saved is not None:
        chain.resume(saved, None)
    return chain


class Process:
    """A live process whose loop is the test."""

    def __init__(self, plant: Plant, settings: Settings) -> None:
        self.plant, self.settings = plant, settings
        topics = (*plant.sense_topics, plant.topic("alarm-commands"))
        group = f"live-{plant.prefix}"
        self.source: Source = wiring.open_member(settings, topics, group)
        self.clock = HandClock()
        homes = Homes(lambda: read_checkpoints(plant, settings), self.clock)
        service = InService(settings, self.clock, rollout=None)
        service.models = cast("Any", {str(plant.address): SimpleNamespace(plant=plant)})
        self.opener = _Opener(
            plant, group, settings, service, RELEASED, self.source, homes, skip_backlog=False
        )
        self.shards: dict[int, Shard] = {}

    def open(self, *numbers: int) -> None:
        wait_for(lambda: self.joins() >= set(numbers))
        for number in numbers:
            self.shards[number] = self.opener.open_shard(number, cast("Any", None))

    @property
    def numbers(self) -> set[int]:
        return {part.partition for part in self.source.assigned()}

    def joins(self) -> set[int]:
        """Poll, and return the numbers that are assigned then."""
        self.source.poll(timeout_s=0.05)
        return self.numbers

    def read(self, num_records: int) -> list[Record]:
        """Answer that many records, and say so."""
        came: list[Record] = []

        def has_come() -> bool:
            came.extend(self.source.poll(timeout_s=0.1))
            return len(came) >= num_records

        wait_for(has_come)
        for number, shard in self.shards.items():
            shard.take([record for record in came if record.partition == number])
            shard.work()
            shard.say()
        return came

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()
        self.source.close()


def share(*processes: Process) -> bool:
    shares = [process.joins() for process in processes]
    return all(shares) and sum(map(len, shares)) == NUM_PARTITIONS


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s


class Site:
    """A plant's topics on a broker, senders, and whoever changes the topics."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.settings = Settings(
            broker="kafka",
            kafka_bootstrap=bootstrap,
            data_dir=folder,
            session_timeout_s=6,
            replica="",  # (members of no name: their partitions move at once when they leave)
        )
        self.plant = make_plant(prefix)
        wiring.prepare_topics(self.settings, self.plant)
        self.admin: Any = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.num_sent = 0

    @property
    def topic(self) -> str:
        return self.plant.sense_topics[0]

    @contextlib.contextmanager
    def process(self, plant: Plant | None = None) -> Iterator[Process]:
        made = Process(plant or self.plant, self.settings)
        with contextlib.closing(made):
            yield made

    def send(self, *, partition: int, epoch: str = "1") -> None:
        sender = StreamSender(self.plant, "process", source="t", epoch=f"{epoch}-{self.num_sent}")
        t_ns = np.array([wiring.open_clock().now_ns()])
        good, status = np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint32)
        batch = TelemetryBatch(
            "process", ("level",), t_ns, t_ns, t_ns, np.array([[0.5]]), good, status
        )
        message = sender.message(batch)
        placed = Message(message.topic, message.key, message.value, message.headers, partition)
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            publisher.publish([placed])
        self.num_sent += 1

    def dead_letters(self) -> list[Record]:
        topic = self.plant.topic("dead-letters")
        with contextlib.closing(wiring.open_source(self.settings, (topic,), "reads")) as source:
            return list(read_to_end(source))

    def make_anew(self, topic: str) -> None:
        before = wiring.topic_ids(self.settings, [topic])
        self.admin.delete_topics([topic])
        wait_for(lambda: topic not in set(self.admin.list_topics()))
        wiring.prepare_topics(self.settings, self.plant)
        wait_for(lambda: wiring.topic_ids(self.settings, [topic]).get(topic) is not None)
        assert wiring.topic_ids(self.settings, [topic]) != before

    def add_partitions(self, num_partitions: int) -> None:
        kinds = ("alarm-commands", "checkpoints", "alarms", "feedback")
        topics = (*self.plant.sense_topics, *map(self.plant.topic, kinds))
        self.admin.create_partitions(dict.fromkeys(topics, num_partitions))


@pytest.fixture
def site(
    kafka_bootstrap: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(_Opener, "_open", open_chain)
    made = Site(kafka_bootstrap, unique, tmp_path)
    yield made
    made.admin.close()


def test_a_plants_records_in_another_partition_than_its_checkpoint_are_refused(site: Site) -> None:
    site.send(partition=1)
    site.send(partition=1)
    with site.process() as first:
        first.open(0, 1)
        first.read(2)
        site.send(partition=0)
        first.read(1)
        assert first.shards[0].chains == {}
        assert sum(counts.read for counts in first.shards[1].counts().values()) == 2
    site.send(partition=0)
    site.send(partition=1)
    with site.process() as again:
        again.open(0, 1)
        came = again.read(4)
        assert [record.partition for record in came].count(1) == 3, "the open window is read again"
        assert again.shards[0].chains == {}
    newest = read_checkpoints(site.plant, site.settings)
    assert homes_of(newest) == {str(site.plant.address): 1}
    letters = site.dead_letters()
    assert [letter.headers["reason"] for letter in letters] == ["wrong-partition"] * 2
    assert [letter.headers["original-offset"] for letter in letters] == ["0", "1"]
    assert "must come in partition 1" in letters[0].headers["message"]
    assert "murmur2" in letters[0].headers["message"]


def test_a_plant_that_another_process_has_met_meanwhile_is_refused_too(site: Site) -> None:
    with site.process() as process, site.process() as other:
        wait_for(lambda: share(process, other))
        number, others = process.numbers.pop(), other.numbers.pop()
        process.open(number)
        other.open(others)
        site.send(partition=others)
        other.read(1)
        process.clock.pass_s(LOOK_AGAIN_S + 1)
        site.send(partition=number)
        process.read(1)
        assert process.shards[number].chains == {}
    assert [letter.headers["reason"] for letter in site.dead_letters()] == ["wrong-partition"]


def test_partitions_that_were_added_are_refused_by_the_process_that_gets_one(site: Site) -> None:
    site.add_partitions(3)
    with (
        site.process() as process,
        pytest.raises(TopicMismatchError, match="must have 2 partitions, as the plant file says"),
    ):
        process.open(2)


def test_partitions_that_were_added_are_refused_though_the_plant_file_says_so(site: Site) -> None:
    site.send(partition=1)
    with site.process() as process:
        process.open(0, 1)
        process.read(1)
    site.add_partitions(3)
    changed = make_plant(site.plant.prefix, num_partitions=3)
    wiring.prepare_topics(site.settings, changed)
    with (
        site.process(changed) as process,
        pytest.raises(TopicMismatchError, match="must have 2 partitions, as when the checkpoint"),
    ):
        process.open(0)


def test_a_topic_that_was_made_anew_is_told_apart_though_its_offsets_fit(site: Site) -> None:
    site.send(partition=1)
    site.send(partition=1)
    with site.process() as process:
        process.open(0, 1)
        process.read(2)
    site.make_anew(site.topic)
    site.send(partition=1)
    site.send(partition=1)
    with site.process() as process, pytest.raises(TopicMismatchError, match="made anew") as said:
        process.open(1)
    assert f"delete all topics of {site.plant.prefix!r}" in str(said.value)
    # What the message says helps.
    site.make_anew(site.plant.topic("checkpoints"))
    with site.process() as process:
        process.open(0, 1)
        process.read(2)
        assert sum(counts.read for counts in process.shards[1].counts().values()) == 2


def test_a_topic_that_is_made_anew_while_it_is_read_is_noticed(site: Site) -> None:
    """Also when nothing else tells: the new topic's end is where reading was in the old one."""
    site.send(partition=1)
    with site.process() as process:
        process.open(0, 1)
        process.read(1)
        before = process.source.assigned()
        site.make_anew(site.topic)
        site.send(partition=1)
        wait_for(lambda: bool(process.joins()) and process.source.assigned() != before)
        changed = {part for part, stamp in process.source.assigned().items()} - {
            part for part, stamp in before.items() if process.source.assigned()[part] == stamp
        }
        assert changed == {TopicPartition(site.topic, number) for number in range(NUM_PARTITIONS)}
        process.shards.pop(1).close()
        with pytest.raises(TopicMismatchError, match="made anew"):
            process.open(1)
