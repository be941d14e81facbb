"""What cannot be read is never passed over: reading stops at it and says so."""

from __future__ import annotations

import contextlib

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource, apply_topics
from fusion.errors import BrokerUnavailableError, SettingsError
from fusion.plant import TopicSpec
from fusion.schema import Message


def test_a_batch_that_the_disk_has_spoilt_stops_reading_with_its_place(
    kafka_bootstrap: str, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = KafkaSettings(kafka_bootstrap)
    apply_topics(settings, {unique: TopicSpec(1)}, update_configs=False)
    with contextlib.closing(KafkaPublisher(settings)) as publisher:
        for number in range(3):
            publisher.publish([Message(unique, "k", bytes([number]) * 40, {"n": "spoil-me"})])
    (segment,) = tmp_path_factory.getbasetemp().rglob(f"{unique}-0/*.log")
    content = bytearray(segment.read_bytes())
    at = [at for at in range(len(content)) if content.startswith(b"spoil-me", at)][1]
    content[at] ^= 1
    with segment.open("r+b") as file:
        file.write(content)
    with contextlib.closing(KafkaSource(settings, [unique], "g")) as source:
        assert [record.offset for record in source.poll(timeout_s=10)] == [0]
        for _ in range(2):  # (and again: it waits there for whoever mends it)
            with pytest.raises(
                BrokerUnavailableError, match=rf"checksum.*{unique}.*offset 1.*mend"
            ):
                source.poll(timeout_s=10)
        assert list(source.positions().values()) == [1]


def test_a_compression_that_is_not_installed_is_named(
    kafka_bootstrap: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka.codec.snappy", None)
    settings = KafkaSettings(kafka_bootstrap)
    with contextlib.closing(KafkaAdminClient(**settings.client_options())) as admin:
        # The broker compresses anew what comes.
        configs = {"compression.type": "snappy"}
        admin.create_topics([NewTopic(unique, 1, 1, topic_configs=configs)])
    with contextlib.closing(KafkaPublisher(settings)) as publisher:
        publisher.publish([Message(unique, "k", b"pump" * 99)])
    with contextlib.closing(KafkaSource(settings, [unique], "g")) as source:
        for _ in range(2):
            with pytest.raises(SettingsError, match=r"snappy.*zstd"):
                source.poll(timeout_s=10)
        assert list(source.positions().values()) == [0]
