"""What Kafka deletes while nobody reads is counted, told and shown; never silently absent."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as KafkaPartition

from connectors.kafka_io import KafkaSettings, KafkaSource
from flows import wiring
from flows.health import Health
from flows.in_service import InService
from flows.ingest import ingest_once
from flows.live import _Opener, run_live
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant, parse_plant
from fusion.schema import Lost, Message, TopicPartition
from fusion.stream.intake import RELEASED
from fusion.stream.live import Live
from fusion.stream.placement import Homes

PLANT_FILE = """
prefix: PREFIX
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
"""


@pytest.fixture
def where(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    return Settings(
        broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path, session_timeout_s=6
    )


@pytest.fixture
def plant(unique: str, where: Settings) -> Plant:
    plant = parse_plant(PLANT_FILE.replace("PREFIX", unique), origin="p.yaml")
    wiring.prepare_topics(where, plant)
    return plant


def part_of(plant: Plant) -> TopicPartition:
    return TopicPartition(plant.topic("video"), 0)


def send(plant: Plant, where: Settings, count: int) -> None:
    with contextlib.closing(wiring.open_publisher(where)) as publisher:
        for _ in range(count):
            publisher.publish([Message(plant.topic("video"), "nobody", b"?")])


def delete_before(where: Settings, part: TopicPartition, offset: int) -> None:
    settings = KafkaSettings(where.kafka_bootstrap)
    with contextlib.closing(KafkaAdminClient(**settings.client_options())) as admin:
        admin.delete_records({KafkaPartition(*part): offset})


def watch_to_end(plant: Plant, where: Settings) -> tuple[list[Lost], Health]:
    """Run a live process, of which every record is a stranger's, until it has read everything."""
    lost: list[Lost] = []
    group = f"live-{plant.prefix}"
    source = wiring.open_member(where, plant.sense_topics, group)
    homes = Homes(dict, wiring.open_clock())
    nothing = InService(where, wiring.open_clock(), rollout=None)
    opener = _Opener(plant, group, where, nothing, RELEASED, source, homes, skip_backlog=False)
    health = Health(wiring.open_clock())
    with contextlib.closing(source):
        live = Live(
            source,
            wiring.open_clock(),
            lambda number: opener.open_shard(number, live),
            health.beat,
            lost.append,
        )
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        live._looked_ns = 0
        live._look_around()
        live.close()
    return lost, health


def test_live_counts_tells_and_shows_what_was_deleted_while_it_was_away(
    plant: Plant, where: Settings
) -> None:
    part = part_of(plant)
    send(plant, where, 4)
    lost, health = watch_to_end(plant, where)
    assert lost == []
    assert health.ready()[1]["lost"] == {}
    send(plant, where, 6)
    delete_before(where, part, 7)
    lost, health = watch_to_end(plant, where)
    assert lost == [Lost(part, 4, 7)]
    assert "retention_h" in str(lost[0])
    assert health.ready()[1]["lost"] == {f"{part.topic}/0": 3}


def test_it_is_counted_once_and_the_account_survives_restarts(
    plant: Plant, where: Settings
) -> None:
    part = part_of(plant)
    send(plant, where, 4)
    watch_to_end(plant, where)
    send(plant, where, 3)
    delete_before(where, part, 7)  # (nothing is left to read)
    watch_to_end(plant, where)
    send(plant, where, 2)
    lost, health = watch_to_end(plant, where)
    assert lost == []
    assert health.ready()[1]["lost"] == {f"{part.topic}/0": 3}


def test_a_first_start_loses_nothing(plant: Plant, where: Settings) -> None:
    send(plant, where, 5)
    delete_before(where, part_of(plant), 3)
    lost, health = watch_to_end(plant, where)
    assert lost == []
    assert health.ready()[1]["lost"] == {}


def test_ingest_says_what_will_never_be_in_the_lake(plant: Plant, where: Settings) -> None:
    lake, part = wiring.open_lake(where), part_of(plant)

    def ingest() -> tuple[Lost, ...]:
        with contextlib.closing(wiring.open_source(where, plant.sense_topics, "ingest")) as source:
            report = ingest_once(source, lake, clock=wiring.open_clock())
        assert report.is_complete
        return report.lost

    send(plant, where, 2)
    assert ingest() == ()
    send(plant, where, 3)
    delete_before(where, part, 4)
    assert ingest() == (Lost(part, 2, 4),)
    assert [record.offset for record in lake.read(plant.sense_topics)] == [0, 1, 4]


def test_a_topic_that_was_made_anew_is_not_read_as_if_it_were_the_old_one(
    plant: Plant, where: Settings
) -> None:
    part = part_of(plant)
    send(plant, where, 2)
    settings = KafkaSettings(where.kafka_bootstrap)
    with contextlib.closing(KafkaSource(settings, [part.topic], "g")) as source:
        source.seek({part: 50})
        with pytest.raises(InputError, match=r"offset 50 of .* ends at 2.*another prefix"):
            source.poll(timeout_s=5)
