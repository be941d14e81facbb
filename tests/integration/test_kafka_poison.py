"""Records that kafka-python cannot read by itself: a dead letter each, and the stream goes on."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Literal

import kafka
import kafka.codec
import numpy as np
import pytest
from kafka.structs import TopicPartition as KafkaPartition

from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource, apply_topics
from connectors.kafka_io.batches import MAX_UNFOLDED_BYTES
from connectors.system_clock import SystemClock
from flows import wiring
from flows.dead_letters import read_dead_letters, replay_dead_letters
from flows.ingest import ingest_once
from flows.objects import take_inventory
from flows.settings import Settings
from fusion.alignment import dead_letter
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import NANOSECONDS, Plant, StreamSender, TopicSpec, parse_plant
from fusion.schema import UNREAD_HEADER, Message, Record, VideoFrame
from fusion.stream.intake import Intake
from fusion.stream.reading import read_to_end

BYTES = b"pump-\xff\xfe"
NAME = BYTES.decode(errors="surrogateescape")

Codec = Literal["gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = ("gzip", "snappy", "lz4", "zstd")


class RawName(str):
    """A header name of any bytes: what senders in other languages can write."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "") -> bytes:
        return BYTES


@pytest.fixture
def where(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    return Settings(broker="kafka", kafka_bootstrap=kafka_bootstrap, data_dir=tmp_path)


@pytest.fixture
def plant(unique: str, where: Settings) -> Plant:
    text = f"""
prefix: {unique}
topics: {{partitions: 2}}
address: {{enterprise: e, site: s, area: a, line: l, cell: c, asset: x}}
streams:
  - {{name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}}
"""
    plant = parse_plant(text, origin="p.yaml")
    wiring.prepare_topics(where, plant)
    return plant


def send(plant: Plant, where: Settings, *, compression: Literal["zstd"] | None) -> list[Message]:
    """Send five records, the third with a name that is no UTF-8, as one batch; return them."""
    sender = StreamSender(plant, "eye", source="test", epoch="boot")
    now_ns = SystemClock().now_ns()
    sent: list[Message] = []
    producer = kafka.KafkaProducer(
        bootstrap_servers=where.kafka_bootstrap, compression_type=compression, linger_ms=200
    )
    for number in range(5):
        at_ns = now_ns - (10 - number) * NANOSECONDS
        sent.append(sender.message(VideoFrame("eye", at_ns, np.zeros((16, 16, 3), np.uint8))))
        headers = [(name, text.encode()) for name, text in sent[-1].headers.items()]
        if number == 2:
            headers.insert(3, (RawName("?"), b"v\xff"))
        producer.send(sent[-1].topic, sent[-1].value, key=sent[-1].key.encode(), headers=headers)
    producer.flush()
    producer.close()
    return sent


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_header_name_of_any_bytes_is_read(
    plant: Plant, where: Settings, compression: Literal["zstd"] | None
) -> None:
    sent = send(plant, where, compression=compression)
    topic = plant.topic("video")
    with contextlib.closing(KafkaSource(KafkaSettings(where.kafka_bootstrap), [topic], "g")) as src:
        got = list(read_to_end(src))
        assert src.positions()[got[0].topic_partition] == 5
    assert [record.offset for record in got] == [0, 1, 2, 3, 4]
    assert [record.value for record in got] == [message.value for message in sent]
    assert {record.key for record in got} == {str(plant.address)}
    assert got[2].headers == {**sent[2].headers, NAME: "v\udcff"}
    assert got[3].headers == sent[3].headers
    assert all(record.t_broker_ns > 10**18 for record in got)


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_a_batch_that_would_unfold_into_a_giant_stays_folded(
    unique: str, where: Settings, codec: Literal["gzip", "lz4", "zstd"]
) -> None:
    topic, giant = f"{unique}.any", bytes(MAX_UNFOLDED_BYTES)
    settings = KafkaSettings(where.kafka_bootstrap)
    apply_topics(settings, {topic: TopicSpec(1)}, update_configs=False)
    producer = kafka.KafkaProducer(
        bootstrap_servers=where.kafka_bootstrap,
        compression_type=codec,
        max_request_size=2 * MAX_UNFOLDED_BYTES,
    )
    for value in (b"before", giant, b"after"):
        producer.send(topic, value, key=b"k")
        producer.flush()
    producer.close()
    with contextlib.closing(KafkaSource(settings, [topic], unique)) as source:
        got = list(read_to_end(source))
        assert source.positions()[got[0].topic_partition] == 3
    assert [(record.offset, record.value) for record in got] == [
        (0, b"before"),
        (1, b""),
        (2, b"after"),
    ]
    assert got[1].headers[UNREAD_HEADER].startswith("too-large: a batch must not unfold")
    assert not got[0].headers
    assert got[1].t_broker_ns > 10**18


def test_a_batch_that_does_not_unfold_is_refused_and_reading_goes_on(
    unique: str, where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, settings = f"{unique}.any", KafkaSettings(where.kafka_bootstrap)
    apply_topics(settings, {topic: TopicSpec(1)}, update_configs=False)
    fold = kafka.codec.gzip_encode
    producer = kafka.KafkaProducer(bootstrap_servers=where.kafka_bootstrap, compression_type="gzip")
    for value, tail in ((b"before", b""), (b"odd" * 999, b"what Java overlooks"), (b"after", b"")):
        monkeypatch.setattr(
            "kafka.record.default_records.gzip_encode",
            lambda folded, tail=tail: fold(folded) + tail,
        )
        producer.send(topic, value, key=b"k")
        producer.flush()
    producer.close()
    with contextlib.closing(KafkaSource(settings, [topic], unique)) as source:
        got = list(read_to_end(source))
    assert [(record.offset, record.value) for record in got] == [
        (0, b"before"),
        (1, b""),
        (2, b"after"),
    ]
    assert got[1].headers[UNREAD_HEADER].startswith("undecodable: a batch must unfold, but: Bad")


def test_every_codec_of_kafka_is_read(unique: str, where: Settings) -> None:
    topic, codecs = f"{unique}.any", CODECS
    settings = KafkaSettings(where.kafka_bootstrap)
    apply_topics(settings, {topic: TopicSpec(1)}, update_configs=False)
    for codec in codecs:
        producer = kafka.KafkaProducer(
            bootstrap_servers=where.kafka_bootstrap, compression_type=codec
        )
        producer.send(topic, codec.encode() * 100)
        producer.flush()
        producer.close()
    with contextlib.closing(KafkaSource(settings, [topic], unique)) as source:
        got = [record.value for record in read_to_end(source)]
    assert got == [codec.encode() * 100 for codec in codecs]


def test_live_makes_a_dead_letter_of_it_and_its_replay_has_every_byte(
    plant: Plant, where: Settings
) -> None:
    send(plant, where, compression="zstd")
    topic = plant.topic("video")
    settings = KafkaSettings(where.kafka_bootstrap)
    with contextlib.closing(KafkaSource(settings, [topic], "g")) as source:
        records = list(read_to_end(source))
    intake = Intake(plant, SystemClock(), context_ticks=2, has_unread=lambda _: False)
    letters = intake.take(records).dead_letters
    assert [letter.headers["original-offset"] for letter in letters] == ["2"]
    assert letters[0].headers["reason"] == "headers"
    assert r"pump-\udcff\udcfe" in letters[0].headers["message"]
    with contextlib.closing(KafkaPublisher(settings)) as publisher:
        publisher.publish(letters)
    (found,) = read_dead_letters(plant, where)
    assert found.refused is not None
    assert found.refused.headers == records[2].headers
    assert replay_dead_letters(plant, where, [0]) == 1
    with contextlib.closing(KafkaSource(settings, [topic], "again")) as source:
        again: Record = list(read_to_end(source))[-1]
    assert again.headers[NAME] == "v\udcff"
    assert again.value == records[2].value


def test_ingest_and_the_sweep_go_on(plant: Plant, where: Settings) -> None:
    send(plant, where, compression=None)
    lake = wiring.open_lake(where)
    source = wiring.open_source(where, plant.sense_topics, "ingest")
    with contextlib.closing(source):
        report = ingest_once(source, lake, clock=SystemClock())
    assert report.num_stored == 5
    assert lake.read(plant.sense_topics)[2].headers[NAME] == "v\udcff"
    take_inventory(plant, where)


@pytest.mark.parametrize(("key", "value"), [(None, b"?"), (b"k\xff", None), (b"", b"")])
def test_a_replay_has_the_nulls_and_every_header(
    plant: Plant, where: Settings, key: bytes | None, value: bytes | None
) -> None:
    topic, settings = plant.topic("video"), KafkaSettings(where.kafka_bootstrap)
    headers = [("note", b"1"), ("form", b"[]"), ("note", b"\xff2"), ("", b""), ("note", b"1")]
    producer = kafka.KafkaProducer(bootstrap_servers=where.kafka_bootstrap)
    producer.send(topic, value, key=key, headers=headers, partition=1)
    producer.flush()
    producer.close()
    with contextlib.closing(KafkaSource(settings, [topic], "g")) as source:
        (record,) = read_to_end(source)
    letter = dead_letter(record, RecordError(DeadLetterReason.HEADERS, "as said"), plant)
    with contextlib.closing(KafkaPublisher(settings)) as publisher:
        publisher.publish([letter])
    assert replay_dead_letters(plant, where, [0]) == 1
    with contextlib.closing(
        kafka.KafkaConsumer(bootstrap_servers=where.kafka_bootstrap, consumer_timeout_ms=10_000)
    ) as consumer:
        parts = [KafkaPartition(topic, number) for number in range(2)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        found = list(itertools.islice(consumer, 2))
    (again,) = [each for each in found if "replayed-from" in dict(each.headers)]
    assert (again.key, again.value) == (key, value)
    origin = f"{plant.topic('dead-letters')}/0/0"
    assert again.headers == [*headers, ("replayed-from", origin.encode())]
    assert key is not None or again.partition == record.partition
