"""What is said of the moment only is on the score, and not in the alarms' journal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from fusion.alarms import AlarmEngine
from fusion.schema import EventChance, EventChances, Score
from fusion.scoring import Scorer
from fusion.stream.verdict import judge
from tests.unit.stream.test_shadow import PLANT, Calm

CHANCES = EventChances(
    within=(EventChance(within_s=30, chance=0.2),), head=1, num_useful=5, num_nuisance=0, error=0.1
)


class Foreseeing(Calm):
    """A score that finds nothing and foresees something."""

    def judge(self, evidence: Any) -> Score:
        return super().judge(evidence).model_copy(update={"event_chances": CHANCES})


def test_the_journal_keeps_a_score_without_chances() -> None:
    tick = SimpleNamespace(tick=7, values={"level": 9.5})
    verdict = judge(
        cast("Any", tick),
        scorer=cast("Scorer", Foreseeing()),
        alarms=AlarmEngine(PLANT),
        plant=PLANT,
        read_health=list,
    )
    assert verdict.score.event_chances == CHANCES
    (raised,) = [event for event in verdict.events if event.transition == "raised"]
    assert raised.score == verdict.score.model_copy(update={"event_chances": None})
