"""The sweep removes what nobody refers to, and never anything that somebody does."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from connectors.object_store import LocalObjectStore
from flows import wiring
from flows.cli import app
from flows.ingest import ingest_once
from flows.objects import sweep, take_inventory
from flows.settings import Settings
from fusion.alignment import dead_letter
from fusion.errors import (
    BrokerUnavailableError,
    DeadLetterReason,
    InputError,
    ObjectStoreUnavailableError,
    RecordError,
)
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import CLAIM_HEADER, Message, Record
from fusion.stream.claims import CLAIM_THRESHOLD_BYTES, Claim, ClaimCheckPublisher

DAY_NS = 24 * 3600 * NANOSECONDS
PLANT_FILE = """
prefix: swept
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
"""
PLANT: Plant = parse_plant(PLANT_FILE, origin="swept.yaml")


class Yesterday:
    """The clock of a sender ``days`` ago."""

    def __init__(self, days: float) -> None:
        self.t_ns = wiring.open_clock().now_ns() - round(days * DAY_NS)

    def now_ns(self) -> int:
        return self.t_ns

    def monotonic_ns(self) -> int:
        return 0

    def sleep(self, duration_s: float) -> None: ...


def put(content: bytes, days: float, where: Settings) -> str:
    """Store an object as a sender did ``days`` ago, and return its key."""
    clock = Yesterday(days)
    claim = Claim.of(content, prefix="swept", now_ns=clock.now_ns())
    wiring.open_objects(where).put(claim.key, content)
    os.utime(Path(where.objects_uri) / claim.key, ns=(clock.now_ns(), clock.now_ns()))
    return claim.key


def send(content: bytes, days: float, where: Settings, topic: str = "swept.video") -> str:
    """Send a large record as a sender did ``days`` ago, and return its object's key."""
    wiring.prepare_topics(where, PLANT)
    clock = Yesterday(days)
    publisher = ClaimCheckPublisher(
        wiring.open_publisher(where),
        wiring.open_objects(where),
        clock=clock,
        threshold_bytes=0,
    )
    with contextlib.closing(publisher):
        publisher.publish([Message(topic, "k", content)])
    key = Claim.of(content, prefix="swept", now_ns=clock.now_ns()).key
    os.utime(Path(where.objects_uri) / key, ns=(clock.now_ns(), clock.now_ns()))
    return key


def ingest(where: Settings) -> None:
    with contextlib.closing(wiring.open_source(where, ["swept.video"], "t")) as source:
        assert ingest_once(source, wiring.open_lake(where), clock=wiring.open_clock()).is_complete


def keys(where: Settings) -> set[str]:
    return {each.key for each in wiring.open_objects(where).list("swept")}


@pytest.fixture
def where(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


FATES = ["broker", "other-modality", "dead-letter", "lake", "nobody"]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(objects=st.lists(st.tuples(st.sampled_from(FATES), st.floats(0, 5)), max_size=12))
def test_exactly_the_old_objects_that_nobody_refers_to_go(
    objects: list[tuple[str, float]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = Settings(data_dir=Path(folder))
        send(b"the lake is not empty", 0, where)
        ingest(where)
        kept = keys(where)
        gone: set[str] = set()
        for number, (fate, days) in enumerate(objects):
            content = b"%d" % number
            if fate == "nobody":
                key = put(content, days, where)
                day = datetime.date.fromisoformat(key.split("/")[1])
                # Its day must have been over for 24 hours: yesterday's has not.
                is_old = (datetime.datetime.now(datetime.UTC).date() - day).days >= 2
                (gone if is_old else kept).add(key)
            elif fate == "broker":
                kept.add(send(content, days, where))
            elif fate == "other-modality":
                # Of another plant that shares the prefix.
                kept.add(send(content, days, where, topic="swept.audio"))
            elif fate == "lake":
                kept.add(in_the_lake_only(content, days, where, offset=1_000_000 + number))
            else:
                kept.add(in_a_dead_letter(content, days, where))
        dry = sweep(PLANT, where, older_than_hours=24, is_dry_run=True)
        assert keys(where) == kept | gone
        removed = sweep(PLANT, where, older_than_hours=24)
        assert removed == dry
        assert {each.key for each in removed} == gone
        assert keys(where) == kept


def in_the_lake_only(content: bytes, days: float, where: Settings, *, offset: int) -> str:
    """Leave a reference where the broker's retention has already removed the record."""
    key = put(content, days, where)
    record = Record("swept.video", 0, offset, "k", b"", {CLAIM_HEADER: key}, t_broker_ns=1)
    wiring.open_lake(where).append([record])
    return key


def in_a_dead_letter(content: bytes, days: float, where: Settings) -> str:
    key = put(content, days, where)
    record = Record("swept.video", 0, 5, "k", b"", {CLAIM_HEADER: key}, t_broker_ns=1)
    letter = dead_letter(record, RecordError(DeadLetterReason.CLAIM_UNAVAILABLE, "away"), PLANT)
    with contextlib.closing(wiring.open_publisher(where)) as publisher:
        publisher.publish([letter])
    return key


def test_what_a_model_was_trained_on_stays_when_its_records_expire(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = in_the_lake_only(b"seen", 5, where, offset=1)
    gone = in_the_lake_only(b"seen by nobody", 5, where, offset=2)
    monkeypatch.setattr(
        "flows.objects.model_data_versions", lambda _: {"model": "swept.video@1,swept.audio@none"}
    )
    wiring.open_lake_upkeep(where).expire("swept.video", before_ns=2)
    assert [each.key for each in sweep(PLANT, where, older_than_hours=24)] == [gone]
    assert keys(where) == {key}


def test_an_empty_lake_may_be_the_wrong_one(where: Settings) -> None:
    send(b"new", 0, where)
    orphan = put(b"orphan", 5, where)
    with pytest.raises(InputError, match="--without-lake"):
        sweep(PLANT, where, older_than_hours=24)
    assert orphan in keys(where)
    sweep(PLANT, where, older_than_hours=24, needs_lake=False)
    assert orphan not in keys(where)


def test_young_objects_are_nobodys_yet(where: Settings) -> None:
    put(b"x", 3, where)
    with pytest.raises(InputError, match=r"older than 1 hours may be removed, got 0\.5"):
        sweep(PLANT, where, older_than_hours=0.5)


def test_what_is_no_claim_is_left_alone(where: Settings) -> None:
    for key in ("swept/notes.txt", "swept/2026-99-99/" + 64 * "0", "other/2020-01-01/" + 64 * "0"):
        wiring.open_objects(where).put(key, b"x")
    before = keys(where)
    assert sweep(PLANT, where, older_than_hours=1, needs_lake=False) == []
    assert keys(where) == before


def test_a_sweep_that_dies_has_removed_orphans_only(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = send(b"kept", 5, where)
    orphans = {put(b"%d" % n, 5, where) for n in range(6)}
    deleted: list[str] = []

    class Dying(LocalObjectStore):
        def delete(self, key: str) -> None:
            if len(deleted) == 3:
                raise ObjectStoreUnavailableError("the store went away")
            super().delete(key)
            deleted.append(key)

    dying = Dying(Path(where.objects_uri))
    monkeypatch.setattr(wiring, "open_objects", lambda _: dying)
    with pytest.raises(ObjectStoreUnavailableError):
        sweep(PLANT, where, older_than_hours=24, needs_lake=False)
    monkeypatch.undo()
    assert len(orphans & keys(where)) == 3
    sweep(PLANT, where, older_than_hours=24, needs_lake=False)
    assert keys(where) == {kept}


def test_a_broker_that_is_away_lets_nothing_go(where: Settings) -> None:
    orphan = put(b"orphan", 5, where)
    where.broker_path.write_bytes(b"no database" * 100)
    with pytest.raises(BrokerUnavailableError):
        sweep(PLANT, where, older_than_hours=24, needs_lake=False)
    assert keys(where) == {orphan}


def test_a_reference_to_nothing_is_shown(
    where: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = send(b"kept", 1, where), send(b"lost", 1, where)
    put(b"orphan", 1, where)
    wiring.open_objects(where).delete(lost)
    inventory = take_inventory(PLANT, where)
    assert inventory.missing == {lost}
    assert inventory.referred == {kept, lost}
    plant_file = tmp_path / "swept.yaml"
    plant_file.write_text(PLANT_FILE)
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    shown = CliRunner().invoke(app, ["objects", "show", str(plant_file)])
    assert shown.exit_code == 0, shown.output
    assert "1 objects are referred to and missing" in shown.output
    assert lost in shown.output.replace("\n", "")
    swept = CliRunner().invoke(app, ["objects", "sweep", str(plant_file), "--dry-run"])
    assert "would remove 0 objects" in swept.output


def test_senders_claim_what_is_large(where: Settings) -> None:
    wiring.prepare_topics(where, PLANT)
    large, small = bytes(CLAIM_THRESHOLD_BYTES + 1), bytes(CLAIM_THRESHOLD_BYTES)
    with contextlib.closing(wiring.open_sender(where, PLANT, source="test")) as publisher:
        publisher.publish([Message("swept.video", "k", value) for value in (large, small)])
    with contextlib.closing(wiring.open_source(where, ["swept.video"], "t")) as source:
        claimed, inline = source.poll(timeout_s=5)
    assert (len(claimed.value), len(inline.value)) == (0, len(small))
    resolver = wiring.open_resolver(where, PLANT)
    assert resolver.resolve(claimed).value == large
    assert resolver.resolve(inline) == inline
