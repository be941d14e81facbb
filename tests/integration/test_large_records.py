"""Large records and dead letters through real services: an S3 server, the lake, Apache Kafka."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import wiring
from flows.cli.plant import load_plant
from flows.dead_letters import read_dead_letters, replay_dead_letters
from flows.gates import open_stored_gate
from flows.ingest import ingest_once
from flows.learn import recorded_observations
from flows.objects import sweep, take_inventory
from flows.replay import replay
from flows.settings import Settings
from fusion.alignment import Observation, dead_letter
from fusion.errors import DeadLetterReason, ObjectStoreUnavailableError, RecordError
from fusion.plant import Plant
from fusion.schema import CLAIM_HEADER, MAX_RECORD_BYTES, Message, Record
from fusion.simulation import normal_scenario, simulate
from fusion.stream.reading import read_to_end
from fusion.stream.spool import SpoolingPublisher
from tests.conftest import S3Server, free_port
from tests.e2e.conftest import make_plant

THRESHOLD_BYTES = 3_000
"""Most pictures and sounds of the rig are larger; so the way of large records is gone often."""


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(data_dir=tmp_path)
    server: S3Server = request.getfixturevalue("s3_server")
    (tmp_path / "secret").write_text(f"{server.secret_key}\n")
    return Settings(
        data_dir=tmp_path,
        objects=f"s3://{server.bucket}/plants",
        objects_endpoint=server.endpoint,
        objects_access_key=server.access_key,
        objects_secret_key_file=tmp_path / "secret",
    )


def send(plant: Plant, settings: Settings, *, threshold_bytes: int) -> None:
    sender = wiring.open_sender(settings, plant, source="test", threshold_bytes=threshold_bytes)
    with contextlib.closing(sender):
        payloads = simulate(normal_scenario(duration_s=20, seed=5), plant)
        replay(payloads, sender, plant, speed=None, clock=wiring.open_clock())
        assert not isinstance(sender, SpoolingPublisher) or sender.flush(60)


def ticks(plant: Plant, settings: Settings) -> list[Observation]:
    """Return what training sees of everything on the broker."""
    lake = wiring.open_lake(settings)
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete
    with open_stored_gate(plant, settings) as gate:
        return recorded_observations(lake, plant, gate)


def on(topic: str, settings: Settings) -> list[Record]:
    with contextlib.closing(wiring.open_source(settings, [topic], "test")) as source:
        return list(read_to_end(source))


def plain(thing: Any) -> Any:
    """Return ``thing`` as something that ``==`` compares."""
    if isinstance(thing, np.ndarray):
        return (str(thing.dtype), thing.shape, thing.tobytes())
    if dataclasses.is_dataclass(thing):
        return {each.name: plain(getattr(thing, each.name)) for each in dataclasses.fields(thing)}
    if isinstance(thing, dict):
        return {name: plain(value) for name, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(each) for each in thing]
    return thing


def test_training_sees_the_same_ticks_by_claim_as_without(
    where: Settings, tmp_path: Path, unique: str
) -> None:
    plant = load_plant(make_plant(tmp_path, unique))
    send(plant, where, threshold_bytes=THRESHOLD_BYTES)
    claimed = ticks(plant, where)
    inline_settings = Settings(data_dir=tmp_path / "inline")
    send(plant, inline_settings, threshold_bytes=10**9)
    inline = ticks(plant, inline_settings)
    assert len(inline) == 40
    assert plain(claimed) == plain(inline)

    inventory = take_inventory(plant, where)
    assert len(inventory.objects) > 20
    assert not inventory.missing
    assert {each.key for each in inventory.objects} == inventory.referred
    assert sweep(plant, where, older_than_hours=1) == []
    lost = sorted(inventory.referred)[::2]
    for key in lost:
        wiring.open_objects(where).delete(key)
    assert take_inventory(plant, where).missing == set(lost)
    assert plain(ticks(plant, where)) != plain(inline)


def test_training_does_not_go_on_without_the_store(
    s3_server: S3Server, tmp_path: Path, unique: str
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        objects=f"s3://{s3_server.bucket}",
        objects_endpoint=s3_server.endpoint,
        objects_access_key=s3_server.access_key,
        objects_secret_key=s3_server.secret_key,  # type: ignore[arg-type]
    )
    plant = load_plant(make_plant(tmp_path, unique))
    send(plant, settings, threshold_bytes=THRESHOLD_BYTES)
    nobody = f"http://127.0.0.1:{free_port()}"
    away = settings.model_copy(update={"objects_endpoint": nobody})
    with pytest.raises(ObjectStoreUnavailableError, match=nobody):
        ticks(plant, away)
    with pytest.raises(ObjectStoreUnavailableError):
        sweep(plant, away, older_than_hours=1)


def test_kafka_takes_replays_and_their_notes_together(
    kafka_bootstrap: str, tmp_path: Path, unique: str
) -> None:
    settings = Settings(data_dir=tmp_path, broker="kafka", kafka_bootstrap=kafka_bootstrap)
    plant = load_plant(make_plant(tmp_path, unique))
    send(plant, settings, threshold_bytes=THRESHOLD_BYTES)
    no_text = Message(plant.topic("video"), str(plant.address), b"?", {"note": "\udcff\udc80 Ü"})
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish([no_text])
    sent = on(plant.topic("video"), settings)[::-1]
    assert sent[0].headers == no_text.headers
    referred = {record.headers[CLAIM_HEADER] for record in sent if CLAIM_HEADER in record.headers}
    assert referred
    away = RecordError(DeadLetterReason.CLAIM_UNAVAILABLE, "away")
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish([dead_letter(record, away, plant) for record in sent[:5]])
    assert replay_dead_letters(plant, settings, range(3)) == 3
    assert replay_dead_letters(plant, settings, range(5)) == 2
    assert replay_dead_letters(plant, settings, range(5)) == 0
    again = on(plant.topic("video"), settings)[len(sent) :]
    assert [(r.key, r.value) for r in again] == [(r.key, r.value) for r in sent[:5]]
    for record, original in zip(again, sent, strict=False):
        assert record.headers.items() >= original.headers.items()
        assert record.headers["replayed-from"].startswith(f"{plant.topic('dead-letters')}/0/")
    letters = list(read_dead_letters(plant, settings))
    assert len(letters) == 5
    assert all(found.replayed_ns is not None for found in letters)
    assert referred <= take_inventory(plant, settings).referred


def test_a_store_that_is_away_holds_large_values_in_the_spool(
    kafka_bootstrap: str, s3_server: S3Server, tmp_path: Path, unique: str
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        broker="kafka",
        kafka_bootstrap=kafka_bootstrap,
        objects=f"s3://{s3_server.bucket}/spooled",
        objects_endpoint=s3_server.endpoint,
        objects_access_key=s3_server.access_key,
        objects_secret_key=s3_server.secret_key,  # type: ignore[arg-type]
    )
    plant = load_plant(make_plant(tmp_path, unique))
    away = settings.model_copy(update={"objects_endpoint": f"http://127.0.0.1:{free_port()}"})
    topic = plant.topic("video")
    large = bytes(MAX_RECORD_BYTES + 1)
    sent = [Message(topic, "k", value) for value in (b"first", large, b"last")]
    with contextlib.closing(wiring.open_sender(away, plant, source="camera")) as sender:
        assert isinstance(sender, SpoolingPublisher)
        assert sender.flush(30)
        for message in sent:
            sender.publish([message])
        assert not sender.flush(3)
        assert isinstance(sender.last_error, ObjectStoreUnavailableError)
        assert sender.waiting_records == 2
    with contextlib.closing(wiring.open_sender(settings, plant, source="camera")) as sender:
        assert isinstance(sender, SpoolingPublisher)
        assert sender.flush(60)
    resolver = wiring.open_resolver(settings, plant)
    came = on(topic, settings)
    assert [resolver.resolve(record).value for record in came] == [m.value for m in sent]
    assert [CLAIM_HEADER in record.headers for record in came] == [False, True, False]
