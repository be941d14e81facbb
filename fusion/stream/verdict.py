"""What the evidence of one tick comes to: its score, and what alarms make of it.

The live chain and a backfill both ask :func:`judge`, in tick order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fusion.alarms import AlarmEngine
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import AlarmEvent, Score, StreamHealth
from fusion.scoring import Evidence, Scorer
from fusion.stream.recall import Recall

HEALTH_EVERY_NS = 10 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that is said of one tick."""

    score: Score
    events: list[AlarmEvent]
    health: list[StreamHealth] = field(default_factory=list[StreamHealth])
    health_events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])


def judge(
    evidence: Evidence,
    *,
    scorer: Scorer,
    alarms: AlarmEngine,
    plant: Plant,
    read_health: Callable[[], list[StreamHealth]],
    recall: Recall | None = None,
) -> Verdict:
    """Return the verdict on ``evidence``, the next tick that has a window."""
    score = scorer.judge(evidence)  # -> surprise and forecasts, explained
    events = alarms.update(_lasting(score))  # -> alarms, after delays
    if recall is not None:
        recall.follow(score, evidence.state_D)
        events = [recall.tell(event, alarms) for event in events]  # -> what was alike before
    if not is_health_due(evidence.tick, plant):
        return Verdict(score, events)
    health = read_health()
    return Verdict(score, events, health, alarms.health(health))


def _lasting(score: Score) -> Score:
    """Return what the journal of the alarms keeps of ``score``, for years.

    Chances are of the moment and of a head that a backfill does not have.
    """
    if score.event_chances is None:
        return score
    return score.model_copy(update={"event_chances": None})


def is_health_due(tick: int, plant: Plant) -> bool:
    """Whether ``tick`` is the last one of ten seconds (of its own length, where longer)."""
    every = max(1, HEALTH_EVERY_NS // plant.tick_ns)
    return tick % every == every - 1
