"""The states of alarms after a restart: as they were, under the definitions of now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.alarms.board import BY_DEFINITION
from fusion.alarms.commands import uncovered
from fusion.alarms.watches import NEVER, Watch
from fusion.plant import Plant
from fusion.schema import AlarmConfig, AlarmEvent, AlarmState, Condition
from fusion.schema.alarms import OverrideKind, Transition


@dataclass(slots=True)
class Restored:
    """What the engine goes on with."""

    states: list[AlarmState]
    changed: list[AlarmState] = field(default_factory=list[AlarmState])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    score_ns: int | None = None
    health_ns: dict[str, int] = field(default_factory=dict[str, int])
    now_ns: int = 0
    """Plant time."""


def restored(
    watches: Sequence[Watch],
    states: Iterable[AlarmState],
    plant: Plant,
    snapshot: Mapping[str, Any],
) -> Restored:
    """Return what to go on with; what another plant file changes of an alarm is journalled.

    What people did (acknowledged, shelved) outlives a change of the definition; the condition does
    unless the alarm now looks at something else. An alarm that is no longer defined ends.
    """
    known = {state.name: state for state in states if state.plant == str(plant.address)}
    found = Restored([], now_ns=snapshot.get("now_ns") or snapshot.get("score_ns") or 0)
    for watch in watches:
        before = known.pop(watch.name, None)
        state = watch.initial() if before is None else _fitted(before, watch.config, found)
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


def _fitted(state: AlarmState, config: AlarmConfig, found: Restored) -> AlarmState:
    """Return ``state`` under the definition of now; what people see of that is journalled."""
    update: dict[str, Any] = {"kind": config.kind, "asset": config.asset}
    if not state.condition.is_standing:
        update["priority"] = config.priority
    state = state.model_copy(update=update)
    if (state.finding, state.tag) != (config.finding, config.tag):
        update = _at_rest(state, config)
        return _say(state, update, "retired", "the plant file has it look at something else", found)
    # Derived ones come back with the next tick if the definition still says so.
    hides: dict[OverrideKind, tuple[bool, Transition]] = {
        "masked": (config.masked_by is not None, "unmasked"),
        "suppressed": (bool(config.suppressed_in), "unsuppressed"),
    }
    for kind, (is_derivable, transition) in hides.items():
        if state.override(kind) is not None and not is_derivable:
            note = "the plant file no longer hides it so"
            state = _say(state, uncovered(state, kind), transition, note, found)
    if state.is_latched and not config.is_latching:
        update = {"is_latched": False}
        state = _say(state, update, "reset", "the plant file no longer latches it", found)
    return state


def _at_rest(state: AlarmState, config: AlarmConfig) -> dict[str, Any]:
    # What the definition hides comes back with the next tick if it still says so.
    by_people = tuple(each for each in state.overrides if each.kind not in {"masked", "suppressed"})
    return {
        "overrides": by_people,
        "finding": config.finding,
        "tag": config.tag,
        "condition": Condition.NORMAL,
        "is_acknowledged": True,
        "is_latched": False,
        "priority": config.priority,
    }


def _retire(state: AlarmState, found: Restored) -> None:
    is_at_rest = state.condition is Condition.NORMAL and state.is_acknowledged
    if is_at_rest and not state.is_latched and not state.overrides:
        return
    update = {
        "condition": Condition.NORMAL,
        "is_acknowledged": True,
        "is_latched": False,
        "overrides": (),
    }
    ended = _say(state, update, "retired", "the plant file no longer has it", found)
    found.changed.append(ended)


def _say(
    state: AlarmState,
    update: Mapping[str, Any],
    transition: Transition,
    note: str,
    found: Restored,
) -> AlarmState:
    """Return ``state`` with ``update``, which is journalled."""
    after = state.model_copy(update={**update, "revision": state.revision + 1})
    found.events.append(
        AlarmEvent(
            id=f"{after.plant}:{after.name}:{after.revision}:{transition}",
            transition=transition,
            t_ns=max(found.now_ns, state.since_ns),
            state=after,
            who=BY_DEFINITION,
            note=note,
        )
    )
    return after


def _times_of_old(found: Restored, plant: Plant) -> None:
    """Earlier releases kept the newest tick in each state."""
    ticks = [s.tick for s in found.states if s.finding in {"surprise", "forecast"}]
    newest = max(ticks, default=NEVER)
    found.score_ns = None if newest == NEVER else (newest + 1) * plant.tick_ns
    for state in found.states:
        if state.finding == "skew" and state.tick != NEVER:
            stream = state.name.removeprefix("skew-")
            found.health_ns[stream] = (state.tick + 1) * plant.tick_ns - 1
