"""The states of a plant's alarms: every change that people can see is journalled with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusion.alarms.commands import uncovered
from fusion.alarms.watches import Watch
from fusion.schema import AlarmConfig, AlarmEvent, AlarmState, Override
from fusion.schema.alarms import OverrideKind, Transition

BY_DEFINITION = "plant file"
"""Who hides an alarm when no person does."""


class Board:
    """States by position, what changed since it was last taken, and the journal's new lines.

    ``on_put`` hears of every new state.
    """

    def __init__(self, address: str, watches: Sequence[Watch]) -> None:
        self.address = address
        self.watches = watches
        self.at = {watch.name: at for at, watch in enumerate(watches)}
        self.states = [watch.initial() for watch in watches]
        self.on_put: list[Callable[[int, AlarmState], None]] = []
        self._changed: dict[str, AlarmState] = {}
        self._events: list[AlarmEvent] = []

    def config(self, at: int) -> AlarmConfig:
        """Return how an alarm is defined."""
        return self.watches[at].config

    def put(self, at: int, state: AlarmState) -> None:
        """Keep what is new of an alarm, without a word about it."""
        self.states[at] = state
        self._changed[state.name] = state
        for heard in self.on_put:
            heard(at, state)

    def say(
        self,
        at: int,
        update: Mapping[str, Any],
        transition: Transition,
        t_ns: int,
        stamp: int | str,
        **told: Any,
    ) -> None:
        """Change an alarm so that people see it, and journal that.

        ``stamp`` (the tick, the time or the command) makes the id of a transition its own.
        """
        state = self.states[at]
        identity = f"{self.address}:{state.name}:{stamp}:{transition}"
        update = {**update, "revision": state.revision + 1}
        if transition == "raised":
            update["episode"] = identity
        self.put(at, state.model_copy(update=update))
        self.journal(
            AlarmEvent(id=identity, transition=transition, t_ns=t_ns, state=self.states[at], **told)
        )

    def journal(self, event: AlarmEvent) -> None:
        """Add a line."""
        self._events.append(event)

    def cover(self, at: int, override: Override, transition: Transition, stamp: int | str) -> None:
        """Hide an alarm."""
        overrides = (*self.states[at].overrides, override)
        told = {"who": override.who, "note": override.reason}
        self.say(at, {"overrides": overrides}, transition, override.t_ns, stamp, **told)

    def uncover(  # noqa: PLR0917 what ends, how that is called, when, why
        self,
        at: int,
        kind: OverrideKind,
        transition: Transition,
        t_ns: int,
        stamp: int | str,
        why: str,
    ) -> None:
        """End what hid an alarm; one that shows again, and stands, is to be acknowledged."""
        self.say(at, uncovered(self.states[at], kind), transition, t_ns, stamp, note=why)

    def ancestors(self, at: int) -> list[int]:
        """Return what may explain an alarm, nearest first."""
        found: list[int] = []
        parent = self.config(at).masked_by
        while parent is not None:
            found.append(self.at[parent])
            parent = self.config(found[-1]).masked_by
        return found

    def replace(self, states: Sequence[AlarmState], changed: Sequence[AlarmState]) -> None:
        """Begin anew with ``states``, of which ``changed`` are to be told."""
        self.states = list(states)
        self._changed = {state.name: state for state in changed}

    def take_changed(self) -> list[AlarmState]:
        """Return the newest state of every alarm that changed since the last call."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def take_events(self) -> list[AlarmEvent]:
        """Return the journal's lines since the last call."""
        events, self._events = self._events, []
        return events
