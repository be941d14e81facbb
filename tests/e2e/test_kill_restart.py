"""``kill -9`` in the middle of a replay: the restarted process says what an unharmed one says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows import wiring
from flows.cli.plant import load_plant
from flows.live import read_checkpoint
from flows.operate import alarm_events, alarm_states, scores
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import Message
from fusion.stream.reading import read_to_end
from tests.e2e.conftest import FAULTS, Rig, make_plant, publish

KILL_AFTER_SCORES = (60, 300)


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "embedded":
        return Settings(data_dir=tmp_path)
    bootstrap = request.getfixturevalue("kafka_bootstrap")
    return Settings(broker="kafka", kafka_bootstrap=bootstrap, data_dir=tmp_path)


def start_live(rig: Rig, *options: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "FUSION_BROKER": rig.settings.broker,
        "FUSION_DATA_DIR": str(rig.settings.data_dir),
        "FUSION_KAFKA_BOOTSTRAP": rig.settings.kafka_bootstrap,
    }
    command = [sys.executable, "-m", "flows.cli", "live", str(rig.plant_file)]
    return subprocess.Popen(
        [*command, "--model", str(rig.model_dir), *options],
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def make_rig(prefix: str, model_dir: Path, settings: Settings, tmp_path: Path) -> Rig:
    plant_file = make_plant(tmp_path, prefix)
    rig = Rig(load_plant(plant_file), plant_file, model_dir, settings)
    publish(FAULTS, rig.plant, settings)
    return rig


def wait_for_scores(plant: Plant, settings: Settings, count: int) -> None:
    """Return once ``count`` scores are published."""
    wiring.prepare_topics(settings, plant)
    source = wiring.open_source(settings, (plant.topic("scores"),), "waits")
    num_seen = 0
    with contextlib.closing(source):
        while num_seen < count:
            num_seen += len(source.poll(timeout_s=0.2))


def outcomes(rig: Rig) -> dict[str, object]:
    """Return what became of the records of each partition, topic prefix left out."""
    checkpoint = read_checkpoint(rig.plant, rig.settings)
    assert checkpoint is not None
    return {
        key.removeprefix(rig.plant.prefix): part["settled"]
        for key, part in checkpoint.intake["partitions"].items()
    }


def test_killed_twice_says_the_same(
    settings: Settings, model_dir: Path, unique: str, tmp_path: Path
) -> None:
    whole = make_rig(f"{unique}-whole", model_dir, settings, tmp_path)
    killed = make_rig(f"{unique}-killed", model_dir, settings, tmp_path)
    assert start_live(whole, "--until-caught-up").wait(timeout=300) == 0

    for count in KILL_AFTER_SCORES:
        process = start_live(killed)
        wait_for_scores(killed.plant, settings, count)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    num_before = len(scores(killed.plant, settings))
    assert start_live(killed, "--until-caught-up").wait(timeout=300) == 0

    expected, got = scores(whole.plant, settings), scores(killed.plant, settings)
    assert KILL_AFTER_SCORES[-1] <= num_before < len(expected), "it was killed in the middle"
    assert [score.tick for score in got] == [score.tick for score in expected]
    assert got == expected
    events = alarm_events(killed.plant, settings)
    assert events == alarm_events(whole.plant, settings)
    assert "raised" in {event.transition for event in events}
    assert alarm_states(killed.plant, settings) == alarm_states(whole.plant, settings)
    assert outcomes(killed) == outcomes(whole)


def test_nothing_is_dead_lettered_twice(
    settings: Settings, model_dir: Path, unique: str, tmp_path: Path
) -> None:
    rig = make_rig(unique, model_dir, settings, tmp_path)
    poison = [Message(rig.plant.topic("video"), str(rig.plant.address), b"\xff", {"seq": "x"})]
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish(poison * 3)
    for _ in range(2):
        assert start_live(rig, "--until-caught-up").wait(timeout=300) == 0
    source = wiring.open_source(settings, (rig.plant.topic("dead-letters"),), "reads")
    with contextlib.closing(source):
        letters = list(read_to_end(source))
    assert [letter.headers["reason"] for letter in letters] == ["headers"] * 3
    assert len({letter.headers["original-offset"] for letter in letters}) == 3
