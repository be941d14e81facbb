"""A live process that takes over from one that was killed in the middle of its transactions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.kafka_io import KafkaPublisher, KafkaSettings
from flows import wiring
from flows.cli.plant import load_plant
from flows.in_service import InService
from flows.live import _Opener, read_checkpoints
from flows.settings import Settings
from fusion.plant import Plant
from fusion.ports import Source
from fusion.schema import Message, TopicPartition
from fusion.stream.checkpoint import ShardCheckpoint, shard_key
from fusion.stream.intake import RELEASED
from fusion.stream.placement import Homes
from tests.e2e.conftest import RIG

NUM_PARTITIONS = 3
NUM_POLLS = 600


def make_plant(folder: Path, prefix: str) -> Plant:
    content = yaml.safe_load(RIG.read_text(encoding="utf-8"))
    content |= {"prefix": prefix, "topics": {"partitions": NUM_PARTITIONS}}
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_plant(path)


def make_opener(
    plant: Plant, settings: Settings, source: Source, *, skip_backlog: bool = False
) -> _Opener:
    """Return what opens the shards of a process that watches no plant."""
    homes = Homes(dict, wiring.open_clock())
    group = f"live-{plant.prefix}"
    nothing = InService(settings, wiring.open_clock(), rollout=None)
    return _Opener(plant, group, settings, nothing, RELEASED, source, homes, skip_backlog)


def open_transaction(publisher: KafkaPublisher, topic: str, number: int) -> None:
    """Leave ``publisher`` as a kill does between its offsets and its commit."""
    publisher._producer.begin_transaction()
    publisher._send_offsets({TopicPartition(topic, number): 7})


def test_no_number_waits_for_the_dead_transaction_of_another(
    kafka_bootstrap: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path, session_timeout_s=6
    )
    plant = make_plant(tmp_path, unique)
    wiring.prepare_topics(settings, plant)
    group, topic = f"live-{unique}", plant.sense_topics[0]
    with contextlib.ExitStack() as stack:
        former: dict[str, KafkaPublisher] = {}
        for number in range(NUM_PARTITIONS):
            writer = f"live-{number}"
            dead = KafkaPublisher(
                KafkaSettings(kafka_bootstrap), group=group, transactional_id=f"{writer}-{group}"
            )
            stack.callback(dead.close)
            open_transaction(dead, topic, number)
            former[writer] = dead
        open_publisher = wiring.open_publisher

        def open_after_the_former(*args: Any, writer: str = "fusion", **options: Any) -> Any:
            # It is open still: nobody has waited until the broker gave it up, after a minute.
            former[writer]._producer.commit_transaction()
            publisher = open_publisher(*args, writer=writer, **options)
            stack.callback(publisher.close)
            return publisher

        monkeypatch.setattr(wiring, "open_publisher", open_after_the_former)
        source = wiring.open_member(settings, plant.sense_topics, group)
        stack.callback(source.close)

        opener = make_opener(plant, settings, source)
        for _ in range(NUM_POLLS):
            source.poll(timeout_s=0.05)
            if source.assigned():
                break
        for number in range(NUM_PARTITIONS):
            opener.open_shard(number, None)  # type: ignore[arg-type] no plant is opened
        assert source.positions()[TopicPartition(topic, 0)] == 7


def test_a_dead_transaction_hides_no_checkpoint_of_another_number(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    settings = Settings(broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path)
    plant = make_plant(tmp_path, unique)
    wiring.prepare_topics(settings, plant)
    group, topic = f"live-{unique}", plant.sense_topics[0]
    dead = KafkaPublisher(
        KafkaSettings(kafka_bootstrap), group=group, transactional_id=f"live-1-{group}"
    )
    with contextlib.closing(dead):
        dead._producer.begin_transaction()
        dead._send([ShardCheckpoint().message(plant, 1)])
        alive = wiring.open_publisher(settings, group=group, writer="live-0")
        with contextlib.closing(alive):
            said = ShardCheckpoint.of({TopicPartition(topic, 0): 7}, {})
            alive.publish([said.message(plant, 0)], commit={TopicPartition(topic, 0): 7})
        newest = read_checkpoints(plant, settings)
        assert newest == {shard_key(0): said.model_dump_json().encode()}


def test_a_restart_before_the_first_word_skips_no_more_than_the_first_start_did(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    settings = Settings(
        broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path, session_timeout_s=6
    )
    plant = make_plant(tmp_path, unique)
    wiring.prepare_topics(settings, plant)

    def publish() -> None:
        with contextlib.closing(wiring.open_publisher(settings)) as publisher:
            publisher.publish([Message(topic, "key", b"?") for topic in plant.sense_topics])

    def start() -> dict[TopicPartition, int]:
        with contextlib.ExitStack() as stack:
            source = wiring.open_member(settings, plant.sense_topics, f"live-{unique}")
            stack.callback(source.close)
            opener = make_opener(plant, settings, source, skip_backlog=True)
            for _ in range(NUM_POLLS):
                source.poll(timeout_s=0.05)
                if source.assigned():
                    break
            for number in range(NUM_PARTITIONS):
                shard = opener.open_shard(number, None)  # type: ignore[arg-type] no plant is opened
                stack.callback(shard.close)
            return source.positions()

    publish()
    first = start()
    assert sorted(first.values())[-len(plant.sense_topics) :] == [1] * len(plant.sense_topics)
    publish()
    assert start() == first
