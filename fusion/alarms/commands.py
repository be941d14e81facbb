"""What operators may do to an alarm: a pure function of its state, the command and plant time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusion.plant import NANOSECONDS
from fusion.schema import AlarmCommand, AlarmState, Override
from fusion.schema.alarms import OverrideKind, Transition

MAX_SHELF_S = 24 * 3600.0
"""Longer than any shift: what must be quiet for longer is taken out of service, with its reason."""
MAX_OUT_OF_SERVICE_S = 30 * 24 * 3600.0
_WORDS = {"comment", "judge"}
"""These change no state: what the operator saw need not be the newest."""
_HIDING: dict[str, tuple[OverrideKind, Transition, float]] = {
    "shelve": ("shelved", "shelved", MAX_SHELF_S),
    "remove-from-service": ("out-of-service", "out-of-service", MAX_OUT_OF_SERVICE_S),
}
_SHOWING: dict[str, tuple[OverrideKind, Transition]] = {
    "unshelve": ("shelved", "unshelved"),
    "return-to-service": ("out-of-service", "in-service"),
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a command does: the transition, and what it changes of the state."""

    transition: Transition
    update: dict[str, Any]


def answer(
    command: AlarmCommand, state: AlarmState, now_ns: int, *, is_episode: bool
) -> Accepted | str:
    """Return what ``command`` does to ``state``, or in words why it is refused.

    ``expected_revision`` is what the operator saw: an alarm that was raised anew since then stays
    as it is, because nobody has seen it. ``now_ns`` is plant time: what hides an alarm ends by it.
    """
    if command.action not in _WORDS and command.expected_revision != state.revision:
        return (
            f"the alarm must be as you saw it, but it is at revision {state.revision} and you saw "
            f"{command.expected_revision}; look again"
        )
    if command.action in _WORDS:
        return _words(command, is_episode=is_episode)
    if command.action in _HIDING:
        return _hide(command, state, now_ns)
    if command.action in _SHOWING:
        return _show(state, *_SHOWING[command.action])
    return _acknowledge(state, now_ns) if command.action == "acknowledge" else _reset(state)


def _words(command: AlarmCommand, *, is_episode: bool) -> Accepted | str:
    if command.action == "judge":
        if is_episode:
            return Accepted("judged", {})
        return (
            f"an episode must be remembered to be judged, got {command.episode!r}; "
            "`fusion alarms journal` shows them"
        )
    return Accepted("commented", {}) if command.note.strip() else "a comment must say something"


def _acknowledge(state: AlarmState, now_ns: int) -> Accepted | str:
    if state.is_acknowledged:
        return "the alarm must be unacknowledged, and it is acknowledged already"
    return Accepted("acknowledged", {"is_acknowledged": True, "acknowledged_ns": now_ns})


def _reset(state: AlarmState) -> Accepted | str:
    if not state.is_latched:
        return "the alarm must be latched to be reset, and it is not"
    if state.condition.is_standing:
        return "the alarm must have cleared to be reset, and it still stands; remove its cause"
    if not state.is_acknowledged:
        return "the alarm must be acknowledged before it is reset"
    return Accepted("reset", {"is_latched": False})


def _hide(command: AlarmCommand, state: AlarmState, now_ns: int) -> Accepted | str:
    kind, transition, most_s = _HIDING[command.action]
    if not command.note.strip():
        return f"who takes an alarm away must say why; give a reason to have it {kind}"
    if command.duration_s is None or command.duration_s > most_s:
        came = "none" if command.duration_s is None else f"{command.duration_s:g} s"
        return f"the alarm may be {kind} for at most {most_s:g} s, got {came}; give a time"
    if state.override(kind) is not None:
        return f"the alarm is {kind} already; end that first"
    override = Override(
        kind=kind,
        who=command.who,
        reason=command.note,
        t_ns=now_ns,
        until_ns=now_ns + round(command.duration_s * NANOSECONDS),
        is_one_shot=command.is_one_shot and kind == "shelved",
    )
    return Accepted(transition, {"overrides": (*state.overrides, override)})


def _show(state: AlarmState, kind: OverrideKind, transition: Transition) -> Accepted | str:
    if state.override(kind) is None:
        return f"the alarm must be {kind} for that, and it is not"
    return Accepted(transition, uncovered(state, kind))


def uncovered(state: AlarmState, kind: OverrideKind) -> dict[str, Any]:
    """Return what ending an override changes: an alarm that shows again, and stands, is new."""
    left = tuple(each for each in state.overrides if each.kind != kind)
    update: dict[str, Any] = {"overrides": left}
    if not left and state.condition.is_standing:
        update["is_acknowledged"] = False
    return update
