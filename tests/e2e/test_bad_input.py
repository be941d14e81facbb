"""Bad input in the middle of a stream: a dead letter with the reason, and the stream goes on."""

from __future__ import annotations

import contextlib
import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flows import wiring
from flows.cli.plant import load_plant
from flows.live import open_live, run_live
from flows.operate import scores
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.alignment import Counts
from fusion.errors import ManifestMismatchError
from fusion.plant import Plant, StreamSender
from fusion.schema import AudioChunk, Message, Record, TelemetryBatch, VideoFrame
from fusion.simulation import normal_scenario, simulate
from fusion.stream.reading import read_to_end
from tests.e2e.conftest import make_plant
from tests.unit.schema.made import changed, fields_of

FUTURE_NS = 4_000_000_000_000_000_000


def spoil(message: Message, kind: str) -> Message:
    """Return ``message`` as a broken sender or line would deliver it."""
    if kind == "truncated":
        return dataclasses.replace(message, value=message.value[:-200])
    if kind == "cut-picture":
        cut = fields_of(message.value)["data"][:-500]
        return dataclasses.replace(message, value=changed(message.value, data=cut))
    if kind == "unknown-schema":
        foreign = message.value[:2] + bytes(8) + message.value[10:]
        return dataclasses.replace(message, value=foreign)
    if kind == "corrupt":
        middle = len(message.value) // 2
        broken = message.value[:middle] + b"\x00" * 400 + message.value[middle + 400 :]
        return dataclasses.replace(message, value=broken)
    if kind == "wrong-schema":
        return dataclasses.replace(message, value=b'{"tag": "tank_level", "value": 1.0}')
    subject = {**message.headers, "ce_subject": message.headers["ce_subject"] + "x"}
    return dataclasses.replace(message, headers=subject)


def messages(plant: Plant) -> list[Message]:
    """Return a minute of the rig in which some records are bad, each kind once."""
    senders = {
        s.name: StreamSender(plant, s.name, source="test", epoch="boot") for s in plant.streams
    }
    # Longer than the maximum age of 2 s: until then the last good values are held.
    not_finite = dict.fromkeys(range(30, 35), "not-finite")
    kinds = {
        VideoFrame: {20: "truncated", 25: "unknown-stream", 30: "cut-picture"},
        AudioChunk: {10: "corrupt", 15: "truncated", 20: "unknown-schema"},
        TelemetryBatch: {10: "wrong-schema", 20: "future"} | not_finite,
    }
    made: list[Message] = []
    counts = dict.fromkeys(kinds, 0)
    for original in simulate(normal_scenario(duration_s=60, seed=3), plant):
        payload = original
        kind = kinds[type(payload)].get(counts[type(payload)])
        counts[type(payload)] += 1
        if isinstance(payload, TelemetryBatch) and kind == "future":
            payload = dataclasses.replace(payload, t_source_R_ns=payload.t_source_R_ns + FUTURE_NS)
        if isinstance(payload, TelemetryBatch) and kind == "not-finite":
            values_RC = payload.values_RC.copy()
            values_RC[:, :3], values_RC[:, 3:5] = np.nan, np.inf
            payload = dataclasses.replace(payload, values_RC=values_RC)
        message = senders[payload.stream].message(payload)
        spoiled = kind not in {None, "future", "not-finite"}
        made.append(spoil(message, kind) if spoiled and kind is not None else message)
    return made


def watch(plant: Plant, model_dir: Path, settings: Settings) -> Counts:
    """Run the live chain over everything on the broker, and return what became of it."""
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        return live.total()


def dead_letters(plant: Plant, settings: Settings) -> list[Record]:
    source = wiring.open_source(settings, (plant.topic("dead-letters"),), "reads")
    with contextlib.closing(source):
        return list(read_to_end(source))


def test_the_stream_goes_on(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    plant = load_plant(make_plant(tmp_path, "spoiled"))
    wiring.prepare_topics(settings, plant)
    sent = messages(plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish(sent)
    counts = watch(plant, model_dir, settings)
    letters = dead_letters(plant, settings)
    assert counts.dead_lettered == len(letters) == 8
    assert counts.read == len(sent)
    assert counts.scored == len(sent) - 8
    reasons = sorted(letter.headers["reason"] for letter in letters)
    assert reasons == [
        "future-time",
        *["undecodable"] * 2,
        "unknown-schema",
        "unknown-stream",
        *["wrong-schema"] * 3,
    ]
    assert all(letter.headers["message"] for letter in letters)
    said = scores(plant, settings)
    assert [b.tick - a.tick for a, b in pairwise(said)] == [1] * (len(said) - 1)
    assert all(np.isfinite(score.surprise) for score in said)
    assert any("process was usable" in caveat for score in said for caveat in score.caveats)


def test_a_model_of_another_plant_is_refused(model_dir: Path, tmp_path: Path) -> None:
    plant_file = make_plant(tmp_path, "other")
    plant_file.write_text(plant_file.read_text().replace("unit: mm/s", "unit: in/s"))
    plant = load_plant(plant_file)
    with (
        pytest.raises(ManifestMismatchError, match=r"units of stream 'process'.*in/s"),
        open_live([Watched(plant, model_dir)], Settings(data_dir=tmp_path)),
    ):
        pass
