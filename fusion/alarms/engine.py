"""Alarms of one plant: which exist, what state each is in, what changed. Time is event time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fusion.alarms.sentences import forecast_sentence, skew_sentence, surprise_sentence
from fusion.alarms.state_machine import Delays, Reading, next_condition
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AlarmDefinition, Plant
from fusion.schema import (
    AlarmCommand,
    AlarmEvent,
    AlarmState,
    Condition,
    Score,
    StreamHealth,
    TagForecast,
)

SURPRISE_OFF = 0.7
"""Off-threshold of surprise, where on is 1: a deadband, so that an alarm does not flutter."""
FORECAST_ON, FORECAST_OFF = 0.5, 0.3
"""Chance of crossing the limit."""
ADVISORY_ON_S, ADVISORY_OFF_S = 2.0, 10.0
SKEW_OFF = 0.7
"""Off-threshold of a skew, as a part of the plant's ``max_skew_s``."""
SKEW_ON_S, SKEW_OFF_S = 30.0, 60.0
MAX_COMMANDS = 1_000

_Finding = Literal["surprise", "forecast", "skew"]


@dataclass(frozen=True, slots=True)
class _Watch:
    """One alarm or advisory: what it looks at, how long that must last."""

    name: str
    kind: Literal["advisory", "alarm"]
    finding: _Finding
    tag: str | None
    priority: Literal["low", "medium", "high"]
    delays: Delays


@dataclass(frozen=True, slots=True)
class _Found:
    """What a watch finds at one tick; ``say`` puts it into words once it is raised."""

    tick: int
    level: float
    reading: Reading
    say: Callable[[], str]
    score: Score | None = None


class AlarmEngine:
    """Holds the state of every alarm; scores and commands go in, transitions come out."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._watches = {watch.name: watch for watch in _watches(plant)}
        self._states = {name: _initial(watch, plant) for name, watch in self._watches.items()}
        self._commands: dict[str, None] = {}

    def states(self) -> list[AlarmState]:
        """Return the state of every alarm, in the order of the plant file."""
        return list(self._states.values())

    def update(self, score: Score) -> list[AlarmEvent]:
        """Return what ``score`` raises or clears. A score of an old tick changes nothing.

        Without data an alarm stays as it is: bad inputs never clear it.
        """
        events: list[AlarmEvent] = []
        for watch in self._watches.values():
            state = self._states[watch.name]
            if watch.finding == "skew" or score.tick <= state.tick:
                continue
            if not any(score.present.values()):
                continue
            forecast = next((f for f in score.forecasts if f.tag == watch.tag), None)
            if watch.finding == "forecast" and forecast is None:
                continue
            events += self._advance(watch, state, _found(score, forecast, self._plant))
        return events

    def health(self, streams: list[StreamHealth]) -> list[AlarmEvent]:
        """Return what the skews of ``streams`` raise or clear; an unknown skew changes nothing."""
        events: list[AlarmEvent] = []
        for stream in streams:
            watch = self._watches[f"skew-{stream.stream}"]
            state = self._states[watch.name]
            found = _found_skew(stream, self._plant)
            if found is not None and found.tick > state.tick:
                events += self._advance(watch, state, found)
        return events

    def command(self, command: AlarmCommand) -> list[AlarmEvent]:
        """Return what ``command`` changes: nothing for a repeat, or when the alarm has moved on.

        ``expected_revision`` is what the operator saw; an alarm that was raised anew since then
        stays unacknowledged, because nobody has seen it.
        """
        if command.id in self._commands or command.name not in self._states:
            return []
        self._commands[command.id] = None
        while len(self._commands) > MAX_COMMANDS:
            del self._commands[next(iter(self._commands))]
        state = self._states[command.name]
        if state.is_acknowledged or state.revision != command.expected_revision:
            return []
        changed = state.model_copy(update={"is_acknowledged": True, "revision": state.revision + 1})
        self._states[command.name] = changed
        return [
            AlarmEvent(
                id=f"{command.id}:acknowledged",
                transition="acknowledged",
                t_ns=command.t_ns,
                state=changed,
                who=command.who,
            )
        ]

    def snapshot(self) -> dict[str, Any]:
        """Return every state, for JSON."""
        return {
            "states": {name: state.model_dump(mode="json") for name, state in self._states.items()},
            "commands": list(self._commands),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``; alarms that the plant file no longer has are forgotten."""
        for name, state in snapshot["states"].items():
            if name in self._states:
                self._states[name] = AlarmState.model_validate(state)
        self._commands = dict.fromkeys(snapshot["commands"])

    def _advance(self, watch: _Watch, state: AlarmState, found: _Found) -> list[AlarmEvent]:
        reading = found.reading
        condition = next_condition(state.condition, state.since_ns, reading, watch.delays)
        update: dict[str, Any] = {"tick": found.tick, "score": found.level}
        if condition is state.condition:
            self._states[watch.name] = state.model_copy(update=update)
            return []
        update |= {"condition": condition, "since_ns": reading.t_ns}
        if state.condition is Condition.NORMAL:
            update["onset_ns"] = reading.t_ns
        is_raised = condition is Condition.ACTIVE and state.condition is not Condition.PENDING_OFF
        is_cleared = condition is Condition.NORMAL and state.condition in _STANDING
        if is_raised:
            update |= {
                "is_acknowledged": False,
                "sentence": found.say(),
                "shares": {} if found.score is None else found.score.shares,
            }
        if is_raised or is_cleared:
            update["revision"] = state.revision + 1
        changed = state.model_copy(update=update)
        self._states[watch.name] = changed
        if not (is_raised or is_cleared):
            return []
        transition: Literal["raised", "cleared"] = "raised" if is_raised else "cleared"
        return [
            AlarmEvent(
                id=f"{self._plant.address}:{watch.name}:{found.tick}:{transition}",
                transition=transition,
                t_ns=reading.t_ns,
                state=changed,
                score=found.score if is_raised else None,
            )
        ]


_STANDING = {Condition.ACTIVE, Condition.PENDING_OFF}


def _found(score: Score, forecast: TagForecast | None, plant: Plant) -> _Found:
    if forecast is None:
        level, on, off = score.surprise, 1.0, SURPRISE_OFF
    else:
        level, on, off = forecast.p_cross, FORECAST_ON, FORECAST_OFF

    def say() -> str:
        return surprise_sentence(score, plant) if forecast is None else forecast_sentence(forecast)

    reading = Reading(is_on=level >= on, is_off=level < off, t_ns=score.t_end_ns)
    return _Found(score.tick, level, reading, say, score)


def _found_skew(health: StreamHealth, plant: Plant) -> _Found | None:
    if health.skew_s is None:
        return None
    level = abs(health.skew_s) / plant.max_skew_s
    reading = Reading(is_on=health.is_skewed, is_off=level < SKEW_OFF, t_ns=health.t_ns)
    tick = health.t_ns // plant.tick_ns
    return _Found(tick, level, reading, lambda: skew_sentence(health, plant))


def _watches(plant: Plant) -> list[_Watch]:
    """Return the plant's alarms, and an advisory for each finding that no alarm covers."""
    watches = [_defined(definition) for definition in plant.alarms]
    covered = {(watch.finding, watch.tag) for watch in watches}
    delays = Delays(round(ADVISORY_ON_S * NANOSECONDS), round(ADVISORY_OFF_S * NANOSECONDS))
    findings: list[tuple[str, _Finding, str | None]] = [("surprise", "surprise", None)]
    findings.extend((f"forecast-{t.name}", "forecast", t.name) for t in plant.measured if t.limits)
    for name, finding, tag in findings:
        if (finding, tag) not in covered:
            watches.append(_Watch(name, "advisory", finding, tag, "low", delays))
    slow = Delays(round(SKEW_ON_S * NANOSECONDS), round(SKEW_OFF_S * NANOSECONDS))
    watches += [
        _Watch(f"skew-{stream.name}", "advisory", "skew", None, "low", slow)
        for stream in plant.streams
    ]
    names = [watch.name for watch in watches]
    if len(set(names)) != len(names):
        raise InputError(f"alarms must not be called as advisories are, got {sorted(names)}")
    return watches


def _defined(definition: AlarmDefinition) -> _Watch:
    delays = Delays(
        round(definition.on_delay_s * NANOSECONDS), round(definition.off_delay_s * NANOSECONDS)
    )
    return _Watch(
        definition.name, "alarm", definition.finding, definition.tag, definition.priority, delays
    )


def _initial(watch: _Watch, plant: Plant) -> AlarmState:
    return AlarmState(
        plant=str(plant.address),
        name=watch.name,
        kind=watch.kind,
        finding=watch.finding,
        tag=watch.tag,
        priority=watch.priority,
        condition=Condition.NORMAL,
        is_acknowledged=True,
        revision=0,
        tick=-(2**62),
        since_ns=0,
    )
