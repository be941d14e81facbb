"""The embedded broker's own promises: retention, offsets that never go back, a full disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from fusion.errors import BrokerUnavailableError, InputError
from fusion.schema import Message, Record, TopicPartition
from fusion.stream.reading import read_to_end

PART = TopicPartition("t", 0)
SECOND_NS = 1_000_000_000


class ManualTime:
    """Nanoseconds that only a test moves."""

    def __init__(self) -> None:
        self.t_ns = 1_700_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.t_ns


def read_all(broker: EmbeddedBroker, topic: str = "t", group: str = "reads") -> list[Record]:
    with contextlib.closing(EmbeddedSource(broker, [topic], group)) as source:
        return list(read_to_end(source))


def end_offset(broker: EmbeddedBroker) -> int:
    with contextlib.closing(EmbeddedSource(broker, ["t"], "reads")) as source:
        return source.end_offsets()[PART]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.integers(0, 100)),
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_offsets_go_on_whatever_was_deleted(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        path = Path(folder) / "broker.sqlite"
        now = ManualTime()

        def publisher() -> EmbeddedPublisher:
            made = EmbeddedPublisher(EmbeddedBroker(path), now_ns=now)
            return opened.enter_context(contextlib.closing(made))

        broker = EmbeddedBroker(path)
        broker.create_topic("t", retention_ms=10_000)
        writer = publisher()
        log: list[int] = []
        num_published = start = 0
        for what, number in steps:
            if what == "publish":
                count = range(num_published, num_published + number)
                writer.publish([Message("t", "k", str(n).encode()) for n in count])
                log += [now.t_ns] * number
                num_published += number
            elif what == "delete":
                start = max(start, num_published * number // 100)
                broker.delete_before({PART: num_published * number // 100})
            elif what == "wait":
                now.t_ns += number * SECOND_NS
            else:
                writer = publisher()
            kept = read_all(broker)
            assert end_offset(broker) == num_published
            assert [r.offset for r in kept] == [int(r.value) for r in kept]
            offsets = [r.offset for r in kept]
            assert offsets == list(range(num_published - len(kept), num_published))
            expired = [n for n, t_ns in enumerate(log) if t_ns < now.t_ns - 10 * SECOND_NS]
            # Nothing goes that was neither asked for nor expired.
            gone = num_published - len(kept)
            assert start <= gone <= max(start, len(expired))


def test_retention_empties_a_topic_and_its_offsets_go_on(tmp_path: Path) -> None:
    now = ManualTime()
    broker = EmbeddedBroker(tmp_path / "broker.sqlite")
    broker.create_topic("t", retention_ms=1_000)
    broker.create_topic("other")
    with contextlib.closing(EmbeddedPublisher(broker, now_ns=now)) as publisher:
        publisher.publish([Message("t", "k", b"old")] * 2_500)
        publisher.publish([Message("other", "k", b"kept")])
        now.t_ns += 2 * SECOND_NS
        # Each look deletes a bounded part, also when only another topic is written.
        for _ in range(4):
            publisher.publish([Message("other", "k", b"kept")] * 300)
    assert read_all(broker) == []
    assert len(read_all(broker, "other")) == 1_201
    with contextlib.closing(EmbeddedPublisher(EmbeddedBroker(tmp_path / "broker.sqlite"))) as again:
        again.publish([Message("t", "k", b"new")])
    assert [(r.offset, r.value) for r in read_all(broker)] == [(2_500, b"new")]


def test_a_reader_below_the_oldest_record_jumps_to_it_and_shows_it(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite")
    with contextlib.closing(EmbeddedPublisher(broker, group="slow")) as publisher:
        publisher.publish([Message("t", "k", str(n).encode()) for n in range(10)])
        publisher.publish([], commit={PART: 2})
        source = EmbeddedSource(broker, ["t"], "slow")
        with contextlib.closing(source):
            assert source.positions() == {PART: 2}
            broker.delete_before({PART: 7})
            assert [r.offset for r in source.poll(timeout_s=0)] == [7, 8, 9]
            source.seek({PART: 3})
            broker.delete_before({PART: 10})
            assert source.poll(timeout_s=0) == []
            assert source.positions() == {PART: 10} == source.end_offsets()
            assert source.committed() == {PART: 2}
            publisher.publish([Message("t", "k", b"next")])
            assert [r.offset for r in source.poll(timeout_s=0)] == [10]


def test_only_what_exists_can_be_deleted(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite")
    with contextlib.closing(EmbeddedPublisher(broker)) as publisher:
        publisher.publish([Message("t", "k", b"x")])
    with pytest.raises(ValueError, match=r"up to the end .* which is 1, got 2"):
        broker.delete_before({PART: 2})
    assert len(read_all(broker)) == 1


@pytest.mark.parametrize("options", [{"retention_ms": 0}, {"retention_ms": 5, "is_compacted": 1}])
def test_a_retention_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, int]) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite")
    with pytest.raises(InputError, match="above 0 and its topic not compacted"):
        broker.create_topic("t", **options)  # type: ignore[arg-type]


def test_the_file_stays_flat_under_steady_load(tmp_path: Path) -> None:
    now = ManualTime()
    path = tmp_path / "broker.sqlite"
    broker = EmbeddedBroker(path)
    broker.create_topic("t", retention_ms=20_000)
    broker.create_topic("frames", retention_ms=20_000)
    sizes: list[int] = []
    with contextlib.closing(EmbeddedPublisher(broker, now_ns=now)) as publisher:
        for _ in range(200):
            now.t_ns += SECOND_NS
            rows = [Message("t", "k", os.urandom(200))] * 100
            publisher.publish([*rows, Message("frames", "k", os.urandom(150_000))])
            sizes.append(sum(each.stat().st_size for each in tmp_path.iterdir()))
    # 20 s of 170 kB each are kept, and a step's worth of what expired.
    assert max(sizes[100:]) <= 1.02 * max(sizes[50:100])
    assert max(sizes) < 20 * 170_000 + 3 * 4 * 1024 * 1024 + 6 * 1024 * 1024


def test_a_burst_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    broker = EmbeddedBroker(path)
    with contextlib.closing(EmbeddedPublisher(broker)) as publisher:
        for _ in range(40):
            publisher.publish([Message("t", "k", os.urandom(1_000_000))])
        assert path.stat().st_size > 30_000_000
        for offset in range(1, 41):
            broker.delete_before({PART: offset})
            publisher.publish([Message("t", "k", b"small")])
    EmbeddedBroker(path)
    assert path.stat().st_size < 10_000_000


OLD_TABLES = """
CREATE TABLE topics (
    topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, is_compacted INTEGER NOT NULL
) STRICT;
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL,
    t_broker_ns INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (topic, partition, offset)
) STRICT;
CREATE TABLE commits (
    consumer_group TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, PRIMARY KEY (consumer_group, topic, partition)
) STRICT;
INSERT INTO topics VALUES ('t', 1, 0), ('compact', 1, 1);
INSERT INTO records VALUES
    (1, 't', 0, 0, 'k', '{}', 5, x'61'), (2, 't', 0, 1, 'k', '{}', 6, x'62'),
    (3, 'compact', 0, 7, 'k', '{}', 7, x'63');
INSERT INTO commits VALUES ('reads', 't', 0, 1);
"""


def test_a_file_of_the_first_version_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.executescript("PRAGMA journal_mode=WAL;" + OLD_TABLES)
    broker = EmbeddedBroker(path)
    assert [(r.offset, r.value) for r in read_all(broker)] == [(1, b"b")]
    broker.create_topic("t", retention_ms=1_000)
    with contextlib.closing(EmbeddedPublisher(EmbeddedBroker(path))) as publisher:
        publisher.publish([Message("t", "k", b"n"), Message("compact", "k", b"m")])
    assert [(r.offset, r.value) for r in read_all(broker)] == [(2, b"n")]
    assert [(r.offset, r.value) for r in read_all(broker, "compact")] == [(8, b"m")]


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broker.sqlite"
    EmbeddedBroker(path)
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA user_version=99")
    with pytest.raises(InputError, match="has 99; use the newer program"):
        EmbeddedBroker(path)


def fill(publisher: EmbeddedPublisher) -> int:
    """Publish and commit pairs until the disk is full; return how many pairs were accepted."""
    for number in range(1_000):
        pair = [Message("t", "k", f"{number}:{half}".encode() + bytes(50_000)) for half in "ab"]
        try:
            publisher.publish(pair, commit={PART: 2 * number})
        except BrokerUnavailableError as error:
            assert "full" in str(error)  # noqa: PT017 the loop needs to know when
            return number
    raise AssertionError("the disk was never full")


def test_a_full_disk_loses_nothing_and_halves_nothing(small_disk: Path) -> None:
    broker = EmbeddedBroker(small_disk / "broker.sqlite")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    publisher = EmbeddedPublisher(broker, group="reads")
    with contextlib.closing(publisher), contextlib.closing(read_source(broker)) as source:
        num_pairs = fill(publisher)
        assert num_pairs > 10
        for _ in range(3):
            with pytest.raises(BrokerUnavailableError, match="full"):
                publisher.publish([Message("t", "k", bytes(2_000_000))], commit={PART: 999})
        # Readers go on, those that were there and new ones.
        assert [r.value.partition(b"\0")[0].decode() for r in read_to_end(source)] == names(
            num_pairs
        )
        with contextlib.closing(EmbeddedSource(broker, ["t"], "reads")) as fresh:
            assert fresh.committed() == {PART: 2 * (num_pairs - 1)}
            assert fresh.end_offsets() == {PART: 2 * num_pairs}
        ballast.unlink()
        publisher.publish([Message("t", "k", b"after")], commit={PART: 2 * num_pairs})
        assert [(r.offset, r.value) for r in read_to_end(source)] == [(2 * num_pairs, b"after")]
    with contextlib.closing(sqlite3.connect(small_disk / "broker.sqlite")) as looked:
        assert looked.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def read_source(broker: EmbeddedBroker) -> EmbeddedSource:
    broker.create_topic("t")
    return EmbeddedSource(broker, ["t"], "other")


def names(num_pairs: int) -> list[str]:
    return [f"{number}:{half}" for number in range(num_pairs) for half in "ab"]
