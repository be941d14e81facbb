"""A sender that was upgraded before its readers is understood, on both brokers.

Version 3 is made up here: the newest schema of sound with one more field that has a default.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows import wiring
from flows.cli.stream import publish
from flows.gates import open_stored_gate
from flows.ingest import ingest_once
from flows.learn import recorded_observations
from flows.schemas import ASK_AGAIN_S, MAX_ASKED, SchemaTopic, open_schemas, publish_schemas
from flows.settings import Settings
from fusion.alignment import admit
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import Plant, StreamSender, parse_plant
from fusion.schema import AudioChunk, Message, Record, WriterSchemas, schema_messages
from fusion.schema.versions import NEWEST, PayloadSchema, make_schema
from fusion.stream.intake import RELEASED
from fusion.stream.reading import read_to_end
from tests.clocks import START_NS, HandClock
from tests.unit.schema.made import fields_of, written

PLANT = """
prefix: {prefix}
address: {{enterprise: e, site: s, area: a, line: l, cell: c, asset: x}}
streams:
  - {{name: ear, modality: audio, sample_rate_hz: 4000}}
"""
T_NS = START_NS
SAMPLES_N = np.arange(40, dtype=np.int16)


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "embedded":
        return Settings(data_dir=tmp_path)
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return Settings(broker="kafka", kafka_bootstrap=bootstrap, data_dir=tmp_path)


@pytest.fixture
def plant(settings: Settings, unique: str) -> Plant:
    made = parse_plant(PLANT.format(prefix=unique), origin="ear.yaml")
    wiring.prepare_topics(settings, made)
    return made


def version(number: int) -> PayloadSchema:
    content = json.loads(NEWEST["fusion.audio"].text)
    extra = [{"name": f"new_{n}", "type": "double", "default": 0.0} for n in range(3, number + 1)]
    return make_schema(content | {"fields": [*content["fields"], *extra]})


def sound(number: int) -> AudioChunk:
    return AudioChunk("ear", T_NS + number, 4000, 0, -1.5, 3, SAMPLES_N, 7)


class Edge:
    """A sender of another release."""

    def __init__(self, plant: Plant, settings: Settings, schema: PayloadSchema) -> None:
        self._schema = schema
        self._plant = plant
        self._settings = settings
        self._sender = StreamSender(plant, "ear", source="edge", epoch=schema.fingerprint)

    def say(self, messages: list[Message]) -> None:
        with contextlib.closing(wiring.open_publisher(self._settings)) as publisher:
            publisher.publish(messages)

    def publish_schema(self) -> None:
        self.say(schema_messages(self._plant.topic("schemas"), [self._schema]))

    def send(self, chunk: AudioChunk) -> None:
        message = self._sender.message(chunk)
        fields = fields_of(message.value) | {"new_3": 0.25, "new_4": 0.5}
        self.say([replace(message, value=written(self._schema, fields))])


@pytest.fixture
def arrivals(plant: Plant, settings: Settings) -> Iterator[Iterator[list[Record]]]:
    """What comes to the topic of sound, from one ask to the next."""
    source = wiring.open_source(settings, plant.sense_topics, "test")

    def ask() -> Iterator[list[Record]]:
        while True:
            yield list(read_to_end(source))

    with contextlib.closing(source):
        yield ask()


def reason_of(record: Record, plant: Plant, schemas: WriterSchemas | None) -> DeadLetterReason:
    with pytest.raises(RecordError) as caught:
        admit(record, plant, schemas)
    return caught.value.reason


def test_an_edge_that_is_upgraded_first_is_understood(
    plant: Plant, settings: Settings, arrivals: Iterator[list[Record]]
) -> None:
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publish_schemas(plant, publisher)
    with open_schemas(plant, settings) as schemas:
        Edge(plant, settings, version(2)).send(sound(1))
        (today,) = next(arrivals)
        assert admit(today, plant, schemas)[1].stream == "ear"
        # The reader runs on while the edge gets a new release.
        edge = Edge(plant, settings, version(3))
        edge.publish_schema()
        edge.send(sound(2))
        edge.send(sound(3))
        for number, record in enumerate(next(arrivals), start=2):
            assert reason_of(record, plant, None) is DeadLetterReason.UNKNOWN_SCHEMA
            payload = admit(record, plant, schemas).payload
            assert isinstance(payload, AudioChunk)
            assert payload.samples_N.tolist() == SAMPLES_N.tolist()
            assert replace(payload, samples_N=SAMPLES_N) == sound(number)


def test_training_understands_what_the_live_gate_understands(
    plant: Plant, settings: Settings
) -> None:
    edge = Edge(plant, settings, version(3))
    edge.publish_schema()
    for number in range(3):
        edge.send(sound(number))
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    with open_stored_gate(plant, settings) as gate:
        assert recorded_observations(lake, plant, gate)
    assert recorded_observations(lake, plant, RELEASED) == []


def test_an_edge_that_says_nothing_does_not_delay_one_that_does(
    plant: Plant, settings: Settings, arrivals: Iterator[list[Record]]
) -> None:
    clock = HandClock()
    silent, open_ = Edge(plant, settings, version(3)), Edge(plant, settings, version(4))
    silent.send(sound(1))
    open_.publish_schema()
    open_.send(sound(2))
    from_silent, from_open = next(arrivals)
    with open_schemas(plant, settings, clock=clock) as schemas:
        assert reason_of(from_silent, plant, schemas) is DeadLetterReason.UNKNOWN_SCHEMA
        assert admit(from_open, plant, schemas)[1].stream == "ear"
        silent.publish_schema()
        # It was looked up a moment ago.
        assert reason_of(from_silent, plant, schemas) is DeadLetterReason.UNKNOWN_SCHEMA
        clock.sleep(ASK_AGAIN_S)
        assert admit(from_silent, plant, schemas)[1].stream == "ear"


def test_many_unknown_fingerprints_cost_a_bounded_number_of_look_ups(
    plant: Plant, settings: Settings
) -> None:
    clock = HandClock()
    edge = Edge(plant, settings, version(3))
    with contextlib.closing(SchemaTopic(plant, settings, clock)) as topic:
        for number in range(MAX_ASKED):
            assert topic.look_up(f"{number:016x}") == []
        edge.publish_schema()
        assert topic.look_up("ff" * 8) == []
        clock.sleep(ASK_AGAIN_S)
        assert [record.key for record in topic.look_up("ff" * 8)] == [version(3).fingerprint]


def test_whoever_publishes_records_publishes_its_schemas_first(
    plant: Plant, settings: Settings
) -> None:
    publish([sound(1)], plant, None, settings, source="test")
    publish([sound(2)], plant, None, settings, source="test")
    source = wiring.open_source(settings, (plant.topic("schemas"),), "test")
    with contextlib.closing(source):
        keys = {record.key for record in read_to_end(source)}
    assert keys == {schema.fingerprint for schema in NEWEST.values()}
