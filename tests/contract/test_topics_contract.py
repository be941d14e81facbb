"""Topics are created once, verified always, and altered only when asked: on both brokers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from connectors import embedded_broker, kafka_io
from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource
from fusion.errors import SettingsError, TopicMismatchError
from fusion.plant import TopicPlan, TopicSpec
from fusion.ports import Publisher, Source
from fusion.schema import Message
from fusion.stream.reading import read_to_end

HOUR_MS = 3_600_000
DAY = TopicSpec(2, retention_ms=24 * HOUR_MS)
WEEK = TopicSpec(2, retention_ms=168 * HOUR_MS)
COMPACTED = TopicSpec(1, is_compacted=True)


@dataclass(frozen=True)
class Administration:
    """One implementation under test."""

    describe: Callable[[Iterable[str]], dict[str, TopicSpec]]
    apply: Callable[..., TopicPlan]
    publisher: Callable[[], Publisher]
    source: Callable[[str], Source]

    def create(self, specs: Mapping[str, TopicSpec]) -> TopicPlan:
        return self.apply(specs, update_configs=False)


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Administration:
    if request.param == "embedded":
        embedded = EmbeddedBroker(tmp_path / "broker.sqlite")
        return Administration(
            describe=partial(embedded_broker.describe_topics, embedded),
            apply=partial(embedded_broker.apply_topics, embedded),
            publisher=lambda: EmbeddedPublisher(embedded),
            source=lambda topic: EmbeddedSource(embedded, [topic], "readers"),
        )
    settings = KafkaSettings(request.getfixturevalue("kafka_bootstrap"))
    return Administration(
        describe=partial(kafka_io.describe_topics, settings),
        apply=partial(kafka_io.apply_topics, settings),
        publisher=lambda: KafkaPublisher(settings),
        source=lambda topic: KafkaSource(settings, [topic], "readers"),
    )


def test_what_is_created_is_found_as_it_was_wanted(broker: Administration, unique: str) -> None:
    specs = {f"{unique}.senses": DAY, f"{unique}.states": COMPACTED}
    assert broker.describe(specs) == {}
    plan = broker.create(specs)
    assert (plan.missing, plan.altered) == (specs, {})
    assert broker.describe(specs) == specs
    again = broker.create(specs)
    assert (again.missing, again.altered) == ({}, {})


def test_topics_of_others_are_left_alone(broker: Administration, unique: str) -> None:
    broker.create({f"{unique}.other": DAY})
    broker.create({f"{unique}.own": WEEK})
    assert broker.describe([f"{unique}.other", f"{unique}.none"]) == {f"{unique}.other": DAY}


@pytest.mark.parametrize("update_configs", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [TopicSpec(3, retention_ms=DAY.retention_ms), TopicSpec(2, is_compacted=True)],
    ids=["partitions", "clean-up"],
)
def test_what_would_move_keys_is_refused_and_nothing_else_is_done(
    broker: Administration, unique: str, wanted: TopicSpec, update_configs: bool
) -> None:
    there = {f"{unique}.a": DAY, f"{unique}.b": DAY}
    broker.create(there)
    asked = {f"{unique}.a": wanted, f"{unique}.b": WEEK, f"{unique}.new": DAY}
    with pytest.raises(TopicMismatchError) as refused:
        broker.apply(asked, update_configs=update_configs)
    assert f"{unique}.a: " in str(refused.value)
    assert f"{unique}.b: retention must be 168 h, it has 24 h" in str(refused.value)
    assert broker.describe(asked) == there


def test_retention_is_altered_only_when_asked_and_records_stay(
    broker: Administration, unique: str
) -> None:
    broker.create({unique: DAY})
    with contextlib.closing(broker.publisher()) as publisher:
        publisher.publish([Message(unique, f"k{n}", b"x") for n in range(20)])
    with pytest.raises(TopicMismatchError, match="fusion topics apply PLANT --update"):
        broker.create({unique: WEEK})
    assert broker.describe([unique]) == {unique: DAY}
    plan = broker.apply({unique: WEEK}, update_configs=True)
    assert (plan.missing, plan.altered) == ({}, {unique: WEEK})
    assert broker.describe([unique]) == {unique: WEEK}
    broker.create({unique: WEEK})
    with contextlib.closing(broker.source(unique)) as source:
        assert len(list(read_to_end(source))) == 20


def test_retention_that_nobody_asks_for_is_left_as_it_is(
    broker: Administration, unique: str
) -> None:
    broker.create({unique: DAY})
    broker.apply({unique: TopicSpec(2)}, update_configs=True)
    assert broker.describe([unique]) == {unique: DAY}


def test_processes_that_start_together_agree(broker: Administration, unique: str) -> None:
    specs = {f"{unique}.{n}": DAY for n in range(8)} | {f"{unique}.s": COMPACTED}
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: broker.create(specs), range(4)))
    assert set().union(*(plan.missing for plan in plans)) == set(specs)
    assert broker.describe(specs) == specs


def test_the_largest_message_of_kafka_is_altered_too(kafka_bootstrap: str, unique: str) -> None:
    settings = KafkaSettings(kafka_bootstrap)
    small = TopicSpec(1, retention_ms=HOUR_MS, max_message_bytes=10_000)
    large = TopicSpec(1, retention_ms=HOUR_MS, max_message_bytes=20_000)
    kafka_io.apply_topics(settings, {unique: small}, update_configs=False)
    with pytest.raises(TopicMismatchError, match="largest message must be 20000 B, it has 10000 B"):
        kafka_io.apply_topics(settings, {unique: large}, update_configs=False)
    kafka_io.apply_topics(settings, {unique: large}, update_configs=True)
    assert kafka_io.describe_topics(settings, [unique]) == {unique: large}


def test_more_copies_than_brokers_is_a_setting_to_change(kafka_bootstrap: str, unique: str) -> None:
    settings = KafkaSettings(kafka_bootstrap, replication=3)
    with pytest.raises(SettingsError, match="FUSION_KAFKA_REPLICATION"):
        kafka_io.apply_topics(settings, {unique: DAY}, update_configs=False)


def test_topics_without_retention_get_one_when_asked(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite")
    broker.create_topic("old", partitions=2)  # as files of version 0.1.0 have them
    with pytest.raises(TopicMismatchError, match="retention must be 24 h, it has not set"):
        embedded_broker.apply_topics(broker, {"old": DAY}, update_configs=False)
    embedded_broker.apply_topics(broker, {"old": DAY}, update_configs=True)
    assert embedded_broker.describe_topics(broker, ["old"]) == {"old": DAY}
