"""Who is told of which alarm, how often, and who next when nobody answers: rules, nothing sent.

Events of the journal and the time go in, notices come out. A notice has the same id however often
it is worked out: ``<event>:<route>:<channel>:<count>``. The event is the one that made the alarm
wait: it was raised, came out of a shelf or is to be acknowledged anew. Each is news to a receiver
that drops repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from fusion.plant import NANOSECONDS
from fusion.plant.described import Described, Name
from fusion.ports import Notice
from fusion.schema import AlarmEvent, AlarmState, ShownState

MAX_WAITING = 1_000
"""Alarms that wait for an answer at once; of more, the oldest are no longer repeated."""


class Route(Described):
    """Which alarms go to which channel."""

    name: Name
    channel: Name
    priorities: tuple[Literal["low", "medium", "high"], ...] = ("high",)
    kinds: tuple[Literal["advisory", "alarm", "system"], ...] = ("alarm",)
    under: str = Field(
        default="", description="Beginning of the plants' addresses, whole levels; '' is all."
    )
    repeat_s: float | None = Field(
        default=None, ge=10, description="Told again while nobody has acknowledged it."
    )
    escalate_after_s: float | None = Field(
        default=None, ge=10, description="Then escalate_to is told too, and repeats go there too."
    )
    escalate_to: Name | None = None
    max_repeats: int = Field(default=10, ge=1, le=1_000)


@dataclass(frozen=True, slots=True)
class Told:
    """A notice, and the channel that it goes to."""

    channel: str
    notice: Notice
    event: str
    """What made the alarm wait."""


@dataclass(slots=True)
class _Waiting:
    event: str
    state: AlarmState
    since_ns: int
    next_ns: dict[str, int | None]
    """By route: when it is told again; None is never."""
    count: dict[str, int]
    is_escalated: dict[str, bool]


class Router:
    """Follows the journal; what is shown as unacknowledged waits for somebody.

    Example:
        >>> Router([Route(name="night", channel="sms")]).due(0)
        []
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.name: route for route in routes}
        self._waiting: dict[str, _Waiting] = {}
        self.num_let_go = 0
        """Alarms that waited and are not repeated: more than MAX_WAITING waited at once."""

    def follow(self, event: AlarmEvent, now_ns: int) -> list[Told]:
        """Return who is told at once of ``event``; an answer or an end stops what was to come."""
        state = event.state
        key = f"{state.plant}:{state.name}"
        if state.shown is not ShownState.UNACKNOWLEDGED:
            self._waiting.pop(key, None)
            return []
        known = self._waiting.get(key)
        if known is not None and known.state.episode == state.episode:
            known.state = state
            return []
        routes = [route for route in self._routes.values() if _is_for(route, state)]
        if not routes:
            return []
        waiting = _Waiting(event.id, state, now_ns, {}, {}, {})
        self._waiting[key] = waiting
        while len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.num_let_go += 1
        told: list[Told] = []
        for route in routes:
            told += self._tell(route, waiting, now_ns)
        return told

    def due(self, now_ns: int) -> list[Told]:
        """Return who is told now of what nobody has answered: repeats and escalations."""
        told: list[Told] = []
        for waiting in self._waiting.values():
            for name, next_ns in list(waiting.next_ns.items()):
                if next_ns is not None and next_ns <= now_ns:
                    told += self._tell(self._routes[name], waiting, now_ns)
        return told

    def is_due(self, told: Told) -> bool:
        """Whether the alarm of ``told`` still waits for what it was told for."""
        waiting = self._waiting.get(f"{told.notice.plant}:{told.notice.name}")
        return waiting is not None and waiting.event == told.event

    def snapshot(self) -> list[dict[str, Any]]:
        """Return what waits, for JSON."""
        return [
            {
                "event": waiting.event,
                "state": waiting.state.model_dump(mode="json"),
                "since_ns": waiting.since_ns,
                "next_ns": waiting.next_ns,
                "count": waiting.count,
                "is_escalated": waiting.is_escalated,
            }
            for waiting in self._waiting.values()
        ]

    def restore(self, snapshot: Sequence[Mapping[str, Any]]) -> None:
        """Go on from ``snapshot``; routes that are no more are told nothing."""
        self._waiting = {}
        for each in snapshot:
            state = AlarmState.model_validate(each["state"])
            kept = {name: at for name, at in each["next_ns"].items() if name in self._routes}
            self._waiting[f"{state.plant}:{state.name}"] = _Waiting(
                each["event"],
                state,
                each["since_ns"],
                kept,
                dict(each["count"]),
                dict(each["is_escalated"]),
            )

    def _tell(self, route: Route, waiting: _Waiting, now_ns: int) -> list[Told]:
        count = waiting.count.get(route.name, 0)
        waiting.count[route.name] = count + 1
        escalates_ns = _after(waiting.since_ns, route.escalate_after_s)
        is_new = False
        if escalates_ns is not None and route.escalate_to and escalates_ns <= now_ns:
            is_new = not waiting.is_escalated.get(route.name, False)
            waiting.is_escalated[route.name] = True
        is_escalated = waiting.is_escalated.get(route.name, False)
        repeats_ns = _after(now_ns, route.repeat_s) if count < route.max_repeats else None
        waits = (
            [repeats_ns] if is_escalated or not route.escalate_to else [repeats_ns, escalates_ns]
        )
        waiting.next_ns[route.name] = min((at for at in waits if at is not None), default=None)
        channels = [route.channel] if count == 0 or route.repeat_s is not None else []
        if is_escalated and route.escalate_to and (is_new or route.repeat_s is not None):
            channels.append(route.escalate_to)
        return [Told(c, _notice(route, c, waiting, count, now_ns), waiting.event) for c in channels]


def _is_for(route: Route, state: AlarmState) -> bool:
    is_meant = state.priority in route.priorities and state.kind in route.kinds
    under = route.under.strip("/")
    return is_meant and (not under or f"{state.plant}/".startswith(f"{under}/"))


def _after(t_ns: int, seconds: float | None) -> int | None:
    return None if seconds is None else t_ns + round(seconds * NANOSECONDS)


def _notice(route: Route, channel: str, waiting: _Waiting, count: int, now_ns: int) -> Notice:
    state = waiting.state
    minutes = (now_ns - waiting.since_ns) / (60 * NANOSECONDS)
    again = f" (unacknowledged for {minutes:.0f} min)" if count else ""
    where = state.asset or state.plant
    return Notice(
        id=f"{waiting.event}:{route.name}:{channel}:{count}",
        subject=f"{state.priority} {state.kind}: {state.name} at {where}{again}",
        text=f"{state.sentence}\n\nPlant {state.plant}, alarm {state.name}.",
        priority=state.priority,
        plant=state.plant,
        name=state.name,
        t_ns=state.raised_ns or state.since_ns,
    )
