"""A new alarm names what was alike before; a verdict lowers what repeats it, across restarts."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fusion.alarms import AlarmEngine
from fusion.schema import AlarmCommand, AlarmEvent, Verdict
from fusion.scoring.members import STATE, accumulated, member_name
from fusion.stream.alarm_topics import KeptAlarms
from fusion.stream.recall import Recall
from tests.unit.alarms.plants import PLANT, score

SIZE = 4
DENSITY = member_name("density", STATE)
CALIBRATION = cast(
    "Any",
    SimpleNamespace(
        normal=SimpleNamespace(
            centres={DENSITY: np.zeros(SIZE)},
            whiteners={accumulated(DENSITY, 1.0): np.eye(SIZE)},
        )
    ),
)
LIKE, UNLIKE = np.array([2.0, 0, 0, 0]), np.array([0, 0, -2.0, 0])


class Plant:
    """An engine and its recall, fed tick by tick."""

    def __init__(self) -> None:
        self.engine, self.recall, self.tick = AlarmEngine(PLANT), new(), 0

    def episode(self, state_D: np.ndarray) -> AlarmEvent:
        """Return the event that a surprise of some ticks in that state raises."""
        told: list[AlarmEvent] = []
        for surprise in [1.5] * 4 + [0.0] * 6:
            tick = score(self.tick, surprise)
            events = self.engine.update(tick)
            self.recall.follow(tick, state_D)
            told += [self.recall.tell(event, self.engine) for event in events]
            self.tick += 1
        (raised,) = [event for event in told if event.transition == "raised"]
        return raised


def new() -> Recall:
    return Recall(PLANT, CALIBRATION, "m1")


def verdict(episode: str) -> AlarmCommand:
    return AlarmCommand(
        id="v1",
        plant=str(PLANT.address),
        name="odd",
        action="judge",
        expected_revision=0,
        who="ann",
        t_ns=0,
        note="a door was open",
        episode=episode,
        judgement="nuisance",
    )


def test_a_nuisance_lowers_what_repeats_it_and_nothing_else() -> None:
    plant = Plant()
    first = plant.episode(LIKE)
    assert (first.nearest, first.state.priority) == ((), "medium")
    plant.recall.judge(verdict(first.id))
    repeat, other = plant.episode(LIKE), plant.episode(UNLIKE)
    assert repeat.nearest[0].episode == first.id
    assert repeat.nearest[0].judgement == "nuisance"
    assert repeat.state.priority == "low"
    assert "Lowered by 50%" in repeat.state.sentence
    assert "a door was open" in repeat.state.sentence
    assert (other.nearest, other.state.priority) == ((), "medium")
    told = next(s for s in plant.engine.take_changed() if s.name == "odd")
    assert told == next(s for s in plant.engine.states() if s.name == "odd")


def test_what_the_topic_holds_is_remembered_after_a_restart() -> None:
    plant = Plant()
    first = plant.episode(LIKE)
    (kept,) = plant.recall.take_new()
    asked = verdict(first.id)
    said = Verdict(
        id=asked.id,
        plant=asked.plant,
        episode=first.id,
        judgement="nuisance",
        note=asked.note,
        who=asked.who,
        t_ns=0,
    )
    snapshot = json.loads(json.dumps(plant.recall.snapshot()))
    plant.recall = new()
    plant.recall.restore(snapshot)
    plant.recall.recollect(KeptAlarms(episodes={kept.id: kept}, verdicts={first.id: said}))
    assert plant.recall.snapshot() == snapshot
    assert plant.recall.knows(first.id)
    assert plant.episode(LIKE).state.priority == "low"
    other_model = Recall(PLANT, CALIBRATION, "m2")
    other_model.recollect(KeptAlarms(episodes={kept.id: kept}))
    assert not other_model.knows(first.id)


def test_a_calibration_that_cannot_place_the_plant_tells_the_alarm_all_the_same() -> None:
    plant = Plant()
    empty = SimpleNamespace(normal=SimpleNamespace(centres={}, whiteners={}))
    plant.recall = Recall(PLANT, cast("Any", empty), "m1")
    assert plant.episode(LIKE).nearest == ()
