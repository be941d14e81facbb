"""Alarms of one plant: which exist, what state each is in, what changed. Time is event time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fusion.alarms.sentences import forecast_sentence, surprise_sentence
from fusion.alarms.state_machine import Delays, Reading, next_condition
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AlarmDefinition, Plant
from fusion.schema import AlarmCommand, AlarmEvent, AlarmState, Condition, Score, TagForecast

SURPRISE_OFF = 0.7
"""Off-threshold of surprise, where on is 1: a deadband, so that an alarm does not flutter."""
FORECAST_ON, FORECAST_OFF = 0.5, 0.3
"""Chance of crossing the limit."""
ADVISORY_ON_S, ADVISORY_OFF_S = 2.0, 10.0
MAX_COMMANDS = 1_000


@dataclass(frozen=True, slots=True)
class _Watch:
    """One alarm or advisory: what it looks at, how long that must last."""

    name: str
    kind: Literal["advisory", "alarm"]
    finding: Literal["surprise", "forecast"]
    tag: str | None
    priority: Literal["low", "medium", "high"]
    delays: Delays


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
            if score.tick <= state.tick or not any(score.present.values()):
                continue
            forecast = next((f for f in score.forecasts if f.tag == watch.tag), None)
            if watch.finding == "forecast" and forecast is None:
                continue
            events += self._advance(watch, state, score, forecast)
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

    def _advance(
        self, watch: _Watch, state: AlarmState, score: Score, forecast: TagForecast | None
    ) -> list[AlarmEvent]:
        level, reading = _reading(score, forecast)
        condition = next_condition(state.condition, state.since_ns, reading, watch.delays)
        update: dict[str, Any] = {"tick": score.tick, "score": level}
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
                "sentence": _sentence(score, forecast, self._plant),
                "shares": score.shares,
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
                id=f"{score.plant}:{watch.name}:{score.tick}:{transition}",
                transition=transition,
                t_ns=score.t_end_ns,
                state=changed,
                score=score if is_raised else None,
            )
        ]


_STANDING = {Condition.ACTIVE, Condition.PENDING_OFF}


def _reading(score: Score, forecast: TagForecast | None) -> tuple[float, Reading]:
    if forecast is None:
        return score.surprise, Reading(
            is_on=score.surprise >= 1, is_off=score.surprise < SURPRISE_OFF, t_ns=score.t_end_ns
        )
    return forecast.p_cross, Reading(
        is_on=forecast.p_cross >= FORECAST_ON,
        is_off=forecast.p_cross < FORECAST_OFF,
        t_ns=score.t_end_ns,
    )


def _sentence(score: Score, forecast: TagForecast | None, plant: Plant) -> str:
    return surprise_sentence(score, plant) if forecast is None else forecast_sentence(forecast)


def _watches(plant: Plant) -> list[_Watch]:
    """Return the plant's alarms, and an advisory for each finding that no alarm covers."""
    watches = [_defined(definition) for definition in plant.alarms]
    covered = {(watch.finding, watch.tag) for watch in watches}
    delays = Delays(round(ADVISORY_ON_S * NANOSECONDS), round(ADVISORY_OFF_S * NANOSECONDS))
    findings: list[tuple[str, Literal["surprise", "forecast"], str | None]] = [
        ("surprise", "surprise", None)
    ]
    findings.extend((f"forecast-{t.name}", "forecast", t.name) for t in plant.measured if t.limits)
    for name, finding, tag in findings:
        if (finding, tag) not in covered:
            watches.append(_Watch(name, "advisory", finding, tag, "low", delays))
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
