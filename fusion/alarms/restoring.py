"""The states of alarms after a restart: as they were, under the definitions of now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.alarms.watches import NEVER, Watch
from fusion.plant import Plant
from fusion.schema import AlarmEvent, AlarmState, Condition


@dataclass(slots=True)
class Restored:
    """What the engine goes on with."""

    states: list[AlarmState]
    changed: list[AlarmState] = field(default_factory=list[AlarmState])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    score_ns: int | None = None
    health_ns: dict[str, int] = field(default_factory=dict[str, int])


def restored(
    watches: Sequence[Watch],
    states: Iterable[AlarmState],
    plant: Plant,
    snapshot: Mapping[str, Any],
) -> Restored:
    """Return what to go on with; an alarm that is no longer defined ends, and that is journalled.

    What people did (acknowledged, shelved) outlives a change of the definition; the condition does
    unless the alarm now looks at something else.
    """
    known = {state.name: state for state in states if state.plant == str(plant.address)}
    found = Restored([])
    for watch in watches:
        before = known.pop(watch.name, None)
        state = watch.initial() if before is None else _fitted(before, watch)
        found.states.append(state)
        if state != before:
            found.changed.append(state)
    for gone in known.values():
        _retire(gone, found)
    found.score_ns = snapshot.get("score_ns")
    found.health_ns = dict(snapshot.get("health_ns", {}))
    if "score_ns" not in snapshot:
        _times_of_old(found, plant)
    return found


def _fitted(state: AlarmState, watch: Watch) -> AlarmState:
    config = watch.config
    update: dict[str, Any] = {"kind": config.kind, "asset": config.asset}
    if not state.condition.is_standing:
        update["priority"] = config.priority
    # Derived ones come back with the next tick if the definition still says so.
    is_derivable = {
        "masked": config.masked_by is not None,
        "suppressed": bool(config.suppressed_in),
    }
    update["overrides"] = tuple(o for o in state.overrides if is_derivable.get(o.kind, True))
    if not config.is_latching:
        update["is_latched"] = False
    if (state.finding, state.tag) != (config.finding, config.tag):
        update |= {
            "finding": config.finding,
            "tag": config.tag,
            "condition": Condition.NORMAL,
            "is_acknowledged": True,
            "priority": config.priority,
            "revision": state.revision + 1,
        }
    return state.model_copy(update=update)


def _retire(state: AlarmState, found: Restored) -> None:
    if state.condition is Condition.NORMAL and state.is_acknowledged and not state.overrides:
        return
    ended = state.model_copy(
        update={
            "condition": Condition.NORMAL,
            "is_acknowledged": True,
            "is_latched": False,
            "overrides": (),
            "revision": state.revision + 1,
        }
    )
    found.changed.append(ended)
    found.events.append(
        AlarmEvent(
            id=f"{state.plant}:{state.name}:{ended.revision}:retired",
            transition="retired",
            t_ns=state.since_ns,
            state=ended,
            note="the plant file no longer has it",
        )
    )


def _times_of_old(found: Restored, plant: Plant) -> None:
    """Earlier releases kept the newest tick in each state."""
    ticks = [s.tick for s in found.states if s.finding in {"surprise", "forecast"}]
    newest = max(ticks, default=NEVER)
    found.score_ns = None if newest == NEVER else (newest + 1) * plant.tick_ns
    for state in found.states:
        if state.finding == "skew" and state.tick != NEVER:
            stream = state.name.removeprefix("skew-")
            found.health_ns[stream] = (state.tick + 1) * plant.tick_ns - 1
