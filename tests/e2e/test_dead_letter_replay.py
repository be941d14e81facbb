"""A refused record is replayed once its cause is mended, and the live process uses it."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import yaml

from flows import wiring
from flows.cli.plant import load_plant
from flows.dead_letters import judge, read_dead_letters, replay_dead_letters
from flows.live import open_live, run_live
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.alignment import Counts, dead_letter
from fusion.errors import DeadLetterReason, RecordError
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import Message, Record
from fusion.simulation import normal_scenario, simulate
from fusion.stream.reading import read_to_end
from tests.e2e.conftest import make_plant

AHEAD_S = 5
"""How far the sender's clock is ahead; the plant allows one second."""


def watch(plant: Plant, model_dir: Path, settings: Settings) -> Counts:
    """Run the live chain over everything on the broker, and return what became of it."""
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
        return live.total()


def messages(plant: Plant) -> list[Message]:
    """Return 30 s of the rig that end ``AHEAD_S`` seconds from now."""
    t_start_ns = wiring.open_clock().now_ns() - (30 - AHEAD_S) * NANOSECONDS
    # Whole ticks, as the simulation wants them.
    t_start_ns -= t_start_ns % plant.tick_ns
    scenario = dataclasses.replace(normal_scenario(duration_s=30, seed=3), t_start_ns=t_start_ns)
    senders = {s.name: StreamSender(plant, s.name, source="test", epoch="b") for s in plant.streams}
    return [senders[p.stream].message(p) for p in simulate(scenario, plant)]


def test_a_replayed_record_ends_as_every_record_does(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    plant_file = make_plant(tmp_path, "replayed")
    content = yaml.safe_load(plant_file.read_text())
    plant_file.write_text(yaml.safe_dump(content | {"max_future_s": 1}))
    plant = load_plant(plant_file)
    wiring.prepare_topics(settings, plant)
    sent = messages(plant)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish(sent)
    sent_ns = wiring.open_clock().now_ns()

    before = watch(plant, model_dir, settings)
    letters = list(read_dead_letters(plant, settings))
    assert before.read == len(sent)
    assert before.dead_lettered == len(letters) > 10
    assert {found.reason for found in letters} == {"future-time"}

    while wiring.open_clock().now_ns() < sent_ns + AHEAD_S * NANOSECONDS:
        wiring.open_clock().sleep(0.2)
    # And a letter of a record that was used: whoever replays it does no harm.
    write_letter_of_a_used_record(plant, settings)
    offsets = [found.offset for found in read_dead_letters(plant, settings)]
    verdicts = judge(plant, settings, is_wanted=lambda _: True)
    assert [verdict.obstacle for verdict in verdicts] == [None] * len(offsets)
    assert replay_dead_letters(plant, settings, offsets) == len(letters) + 1

    after = watch(plant, model_dir, settings)
    assert after.read == len(sent) + len(letters) + 1
    assert after.dead_lettered == before.dead_lettered
    assert after.duplicate == before.duplicate + 1
    assert after.scored + after.late == before.scored + before.late + len(letters)
    assert after.scored > before.scored
    assert len(list(read_dead_letters(plant, settings))) == len(offsets)


def write_letter_of_a_used_record(plant: Plant, settings: Settings) -> None:
    topic = plant.topic("telemetry")
    with contextlib.closing(wiring.open_source(settings, [topic], "test")) as source:
        used: Record = next(iter(read_to_end(source)))
    error = RecordError(DeadLetterReason.UNDECODABLE, "it was not")
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        publisher.publish([dead_letter(used, error, plant)])
