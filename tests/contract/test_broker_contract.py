"""The laws of a broker, the same for the embedded one and for a real Apache Kafka."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from connectors.kafka_io import KafkaPublisher, KafkaSettings, KafkaSource, apply_topics
from connectors.system_clock import SystemClock
from flows.carrier import BackgroundCarrier
from fusion.errors import BrokerUnavailableError
from fusion.plant import TopicSpec
from fusion.ports import Publisher, Source
from fusion.schema import Message, Record, TopicPartition
from fusion.stream.reading import read_to_end
from fusion.stream.spool import SpoolingPublisher
from fusion.stream.spool_log import SPOOL_GROUP, SPOOL_TOPIC


@dataclass
class Broker:
    """One implementation under test."""

    create: Callable[[str, int], object]
    publisher: Callable[[str | None], Publisher]
    source: Callable[[list[str], str], Source]
    opened: list[Source | Publisher] = field(default_factory=list)

    def open_publisher(self, group: str | None = None) -> Publisher:
        self.opened.append(self.publisher(group))
        return self.opened[-1]  # type: ignore[return-value]

    def open_source(self, topics: list[str], group: str = "readers") -> Source:
        self.opened.append(self.source(topics, group))
        return self.opened[-1]  # type: ignore[return-value]


def open_spool(remote: EmbeddedBroker, folder: Path) -> SpoolingPublisher:
    """Return a sender with a spool of its own, whose broker answers."""
    local = EmbeddedBroker(folder / f"spool-{uuid.uuid4().hex}.sqlite")
    local.create_topic(SPOOL_TOPIC)
    return SpoolingPublisher(
        BackgroundCarrier(lambda: EmbeddedPublisher(remote)),
        local=EmbeddedPublisher(local, group=SPOOL_GROUP),
        local_source=EmbeddedSource(local, [SPOOL_TOPIC], SPOOL_GROUP),
        trim=local.delete_before,
        max_bytes=10**9,
        clock=SystemClock(),
    )


@pytest.fixture(params=["embedded", "spool", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param != "kafka":
        embedded = EmbeddedBroker(tmp_path / "broker.sqlite")
        made = Broker(
            create=lambda topic, count: embedded.create_topic(topic, partitions=count),
            publisher=lambda group: (
                EmbeddedPublisher(embedded, group=group)
                if group or request.param == "embedded"
                else open_spool(embedded, tmp_path)
            ),
            source=lambda topics, group: EmbeddedSource(embedded, topics, group),
        )
    else:
        settings = KafkaSettings(request.getfixturevalue("kafka_bootstrap"))
        made = Broker(
            create=lambda topic, count: apply_topics(
                settings, {topic: TopicSpec(count)}, update_configs=False
            ),
            publisher=lambda group: KafkaPublisher(
                settings, group=group, transactional_id=None if group is None else f"tx-{group}"
            ),
            source=lambda topics, group: KafkaSource(settings, topics, group),
        )
    yield made
    for each in made.opened:
        each.close()


def read(source: Source, count: int) -> list[Record]:
    """Return the next ``count`` records, or fail after twenty empty polls."""
    found: list[Record] = []
    for _ in range(40):
        found += source.poll(timeout_s=0.5)
        if len(found) >= count:
            break
    assert len(found) == count
    return found


def test_records_come_back_whole_and_in_order(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    sent = [
        Message(unique, "a/b", bytes([n % 256]) * n, {"seq": str(n), "name": "Ü"})
        for n in range(300)
    ]
    broker.open_publisher().publish(sent)
    got = read(broker.open_source([unique]), 300)
    assert [r.value for r in got] == [m.value for m in sent]
    assert [r.headers for r in got] == [m.headers for m in sent]
    assert {r.key for r in got} == {"a/b"}
    assert [r.offset for r in got] == sorted(r.offset for r in got)
    assert all(r.t_broker_ns > 10**18 for r in got)


def test_a_key_meets_the_same_partition_in_every_topic(broker: Broker, unique: str) -> None:
    topics = [f"{unique}-{kind}" for kind in ("one", "two", "three")]
    for topic in topics:
        broker.create(topic, 4)
    keys = [f"plant/{n}" for n in range(12)]
    broker.open_publisher().publish([Message(t, k, b"x") for t in topics for k in keys])
    where: dict[str, set[int]] = {}
    for record in read(broker.open_source(topics), 36):
        where.setdefault(record.key, set()).add(record.partition)
    assert all(len(partitions) == 1 for partitions in where.values())
    assert len(set.union(*where.values())) > 1


def test_a_message_may_name_its_partition(broker: Broker, unique: str) -> None:
    broker.create(unique, 3)
    publisher = broker.open_publisher(unique)
    publisher.publish([Message(unique, f"k{n}", b"x", partition=n % 3) for n in range(6)])
    got = read(broker.open_source([unique]), 6)
    assert {r.key: r.partition for r in got} == {f"k{n}": n % 3 for n in range(6)}
    with pytest.raises((ValueError, AssertionError)):
        publisher.publish([Message(unique, "k", b"x", partition=3)])


def test_a_group_goes_on_where_it_committed(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    publisher = broker.open_publisher(unique)
    publisher.publish([Message(unique, "k", str(n).encode()) for n in range(10)])
    first = read(broker.open_source([unique], unique), 10)
    publisher.publish([], commit={first[0].topic_partition: first[4].offset})
    again = broker.open_source([unique], unique)
    assert again.committed() == {TopicPartition(unique, 0): first[4].offset}
    assert [r.value for r in read(again, 6)] == [r.value for r in first[4:]]
    assert len(read(broker.open_source([unique], f"{unique}-other"), 10)) == 10


def test_messages_and_positions_are_one_transaction(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    broker.create(f"{unique}-out", 1)
    publisher = broker.open_publisher(unique)
    publisher.publish([Message(unique, "k", b"in")])
    record = read(broker.open_source([unique], unique), 1)[0]
    with pytest.raises((AttributeError, TypeError, AssertionError, BrokerUnavailableError)):
        publisher.publish(
            [Message(f"{unique}-out", "k", b"half"), Message(f"{unique}-out", "k", None)],  # type: ignore[arg-type]
            commit={record.topic_partition: "not an offset"},  # type: ignore[dict-item]
        )
    assert broker.open_source([unique], unique).committed() == {}
    publisher.publish([Message(f"{unique}-out", "k", b"whole")], commit={record.topic_partition: 1})
    out = list(read_to_end(broker.open_source([f"{unique}-out"])))
    assert [r.value for r in out] == [b"whole"]
    assert broker.open_source([unique], unique).committed() == {TopicPartition(unique, 0): 1}


def test_positions_without_a_group_are_refused(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    with pytest.raises(ValueError, match="group"):
        broker.open_publisher().publish([], commit={TopicPartition(unique, 0): 1})


def test_seek_and_ends(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    source = broker.open_source([unique])
    part = TopicPartition(unique, 0)
    assert source.end_offsets() == {part: 0}
    assert source.poll(timeout_s=0.05) == []
    broker.open_publisher().publish([Message(unique, "k", str(n).encode()) for n in range(5)])
    assert source.end_offsets() == {part: 5}
    assert len(read(source, 5)) == 5
    assert source.positions() == {part: 5}
    source.seek({part: 2})
    assert [r.value for r in read(source, 3)] == [b"2", b"3", b"4"]


def test_a_source_outside_a_group_reads_everything(broker: Broker, unique: str) -> None:
    broker.create(unique, 3)
    source = broker.open_source([unique])
    source.poll(timeout_s=0.05)
    assert set(source.assigned()) == {TopicPartition(unique, number) for number in range(3)}


def test_held_partitions_wait_and_go_on_where_they_were(broker: Broker, unique: str) -> None:
    """In turn, several times, with more records than one poll gives: nothing lost or repeated."""
    topics = [f"{unique}-{kind}" for kind in ("one", "two", "three")]
    parts = [TopicPartition(topic, 0) for topic in topics]
    for topic in topics:
        broker.create(topic, 1)
    publisher = broker.open_publisher()
    for topic in topics:
        publisher.publish([Message(topic, "k", str(n).encode()) for n in range(1_700)])
    source = broker.open_source(topics)
    got: dict[str, list[int]] = {topic: [] for topic in topics}
    for turn in range(300):
        if sum(map(len, got.values())) == 3 * 1_700:
            break
        held = [parts[turn % 3], parts[(turn + 1) % 3]] if turn % 4 else [parts[turn % 3]]
        source.hold(held)
        records = source.poll(timeout_s=0.1)
        assert not {record.topic_partition for record in records} & set(held)
        for record in records:
            got[record.topic].append(int(record.value))
    assert got == {topic: list(range(1_700)) for topic in topics}


def test_keeping_alive_moves_nothing(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    broker.create(f"{unique}-held", 1)
    publisher = broker.open_publisher()
    for topic in (unique, f"{unique}-held"):
        publisher.publish([Message(topic, "k", str(n).encode()) for n in range(1_200)])
    source = broker.open_source([unique, f"{unique}-held"])
    source.hold([TopicPartition(f"{unique}-held", 0)])
    values: list[int] = []
    for _ in range(40):
        if len(values) == 1_200:
            break
        values += [int(record.value) for record in source.poll(timeout_s=0.5)]
        before = source.positions()
        source.keep_alive()
        assert source.positions() == before
    assert values == list(range(1_200)), "and what is held stays held"


def test_large_frames_pass(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    frames = [os.urandom(1_000_000) for _ in range(6)]
    broker.open_publisher().publish([Message(unique, "k", frame) for frame in frames])
    assert [r.value for r in read(broker.open_source([unique]), 6)] == frames


def test_two_publishers_lose_nothing(broker: Broker, unique: str) -> None:
    broker.create(unique, 1)
    one, two = broker.open_publisher(), broker.open_publisher()
    for n in range(20):
        one.publish([Message(unique, "k", f"one-{n}".encode())])
        two.publish([Message(unique, "k", f"two-{n}".encode())])
    values = [r.value.decode() for r in read(broker.open_source([unique]), 40)]
    for name in ("one", "two"):
        own = [value for value in values if value.startswith(name)]
        assert own == [f"{name}-{n}" for n in range(20)]


KILLED_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher
from connectors.kafka_io import KafkaPublisher, KafkaSettings
from fusion.schema import Message, TopicPartition
kind, place, topic, group = sys.argv[1:]
if kind != "kafka":
    publisher = EmbeddedPublisher(EmbeddedBroker(Path(place)), group=group)
else:
    publisher = KafkaPublisher(KafkaSettings(place), group=group, transactional_id="tx-" + group)
number = 0
while True:
    publisher.publish(
        [Message(topic, "k", f"{{number}}:{{part}}".encode()) for part in range(50)],
        commit={{TopicPartition(topic, 0): number + 1}},
    )
    number += 1
    print(number, flush=True)
"""


def test_a_writer_killed_in_the_middle_leaves_whole_transactions(
    broker: Broker, unique: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    broker.create(unique, 1)
    kind = request.node.callspec.params["broker"]
    place = (
        request.getfixturevalue("kafka_bootstrap")
        if kind == "kafka"
        else str(tmp_path / "broker.sqlite")
    )
    script = tmp_path / "writer.py"
    script.write_text(KILLED_WRITER.format(root=str(Path(__file__).parents[2])))
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, str(script), kind, place, unique, unique],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 5:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    # Opening the writer of the same group ends what the killed one had begun.
    with contextlib.closing(broker.publisher(unique)) as successor:
        successor.publish([Message(unique, "k", b"end:0")])
    records = list(read_to_end(broker.open_source([unique], unique)))
    if broker.open_source([unique], unique).committed():
        source = broker.open_source([unique], f"{unique}-all")
        records = list(read_to_end(source))
    values = [r.value.decode() for r in records]
    assert values[-1] == "end:0"
    runs = [value for value in values[:-1] if value.endswith(":0")]
    assert len(values) - 1 == 50 * len(runs)
    assert len(runs) >= 10
