"""Takes a challenger on, stage by stage, when it was seen long enough and did well.

A live process takes back what breaks a rule by itself, at once. This looks the other way: who was
not seen has not proved itself, however long it was in shadow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from flows import wiring
from flows.registry import follow_journal
from flows.rollout import CANARY_SHARE, promote
from flows.rollout_seen import read_seen
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.rollout.judging import Limits, Seen, problem
from fusion.rollout.states import Action, Rollout

WHO = "advance flow"
FRESH_S = 120.0
"""Told longer ago, and nobody watches now."""


class Patience(BaseModel):
    """How long a challenger proves itself in each stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shadow_s: float = Field(default=86_400.0, ge=0)
    canary_s: float = Field(default=86_400.0, ge=0)
    min_seen_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Of the ticks of that time, of all plants: what both versions scored.",
    )
    share: float = Field(default=CANARY_SHARE, gt=0, le=1, description="Of the assets, as canary")
    skips_canary: bool = Field(default=False, description="From shadow into service at once.")


@dataclass(frozen=True, slots=True)
class Advance:
    """What was done with a challenger, and why."""

    has_moved: bool
    why: str
    state: Rollout


def advance(
    settings: Settings, plants: Sequence[Plant], patience: Patience, *, who: str = WHO
) -> Advance:
    """Take the challenger of ``plants``, which share a prefix, one stage further if it may.

    The registry follows the journal in any case.

    Raises:
        InputError: Another one took a step meanwhile; look again.
        TrackingUnavailableError: The registry is away; the journal is as it is, call again.
    """
    state = follow_journal(settings, plants[0])
    why = _reason_to_wait(settings, plants, patience, state)
    if why is not None:
        return Advance(has_moved=False, why=why, state=state)
    challenger = state.challenger
    assert challenger is not None, "without one there is a reason to wait"
    told = f"{challenger} was {state.stage} for {_hours(state)} h and did well"
    state = promote(
        settings,
        plants,
        challenger,
        who=who,
        why=told,
        share=patience.share,
        to_champion=patience.skips_canary,
    )
    follow_journal(settings, plants[0])
    return Advance(has_moved=True, why=told, state=state)


def _reason_to_wait(
    settings: Settings, plants: Sequence[Plant], patience: Patience, state: Rollout
) -> str | None:
    if state.challenger is None or state.stage not in {Action.SHADOW, Action.CANARY}:
        return f"nothing proves itself: {state.told()}"
    asked_s = patience.shadow_s if state.stage is Action.SHADOW else patience.canary_s
    now_ns = wiring.open_clock().now_ns()
    passed_s = (now_ns - state.since_ns) / NANOSECONDS
    if passed_s < asked_s:
        return (
            f"{state.challenger} is {state.stage} for {passed_s / 3_600:.1f} h, "
            f"{asked_s / 3_600:.1f} h are asked"
        )
    told = {
        version: seen
        for each in read_seen(settings, plants[0])
        if each.revision == state.revision and now_ns - each.t_ns < FRESH_S * NANOSECONDS
        for version, seen in each.seen.items()
    }
    assert state.champion is not None, "who proves itself does so beside a champion"
    seen, beside = (told.get(each, Seen()) for each in (state.challenger, state.champion))
    tick_s = plants[0].tick_s
    asked_ticks = max(1, round(asked_s / tick_s * patience.min_seen_share * len(plants)))
    if min(seen.num_ticks, beside.num_ticks) < asked_ticks:
        return (
            f"{state.challenger} scored {seen.num_ticks} ticks and the champion "
            f"{beside.num_ticks} beside it, {asked_ticks} are asked of both: `fusion live` must "
            "run, and not be started anew all the time"
        )
    budget = sum(plant.scoring.false_alarms_per_day for plant in plants) / len(plants)
    found = problem(seen, beside, Limits(false_alarms_per_day=budget), tick_s=tick_s)
    return None if found is None else f"{state.challenger} broke a rule: {found.sentence}"


def _hours(state: Rollout) -> str:
    passed_s = (wiring.open_clock().now_ns() - state.since_ns) / NANOSECONDS
    return f"{passed_s / 3_600:.1f}"
