"""The way of a model version into service, as a journal: every step says who took it and why.

::

    loaded ─▶ probed ─▶ shadow ─▶ canary ─▶ champion ─▶ (the former champion stands by) ─▶ retired
       └────────┴─▶ refused   └───────┴──▶ rolled-back ◀──┘

There is one champion, at most one challenger, and after a promotion the former champion stands by
for a while: it goes on scoring in shadow, so that a rollback finds it warm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from fusion.errors import InputError


class Action(StrEnum):
    """What a step does."""

    LOADED = "loaded"
    PROBED = "probed"
    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    RETIRED = "retired"


class Entry(BaseModel):
    """One step; a line of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int = Field(ge=1, description="Runs from 1; a step on a state that moved on is none.")
    t_ns: int
    action: Action
    version: str
    who: str = Field(min_length=1, description="A person, or the process that decided.")
    why: str = Field(min_length=1)
    share: float = Field(default=0.0, ge=0, le=1, description="Of the assets, for a canary.")
    evidence: dict[str, float] = Field(default_factory=dict[str, float])


class Rollout(BaseModel):
    """Which version serves, which one proves itself, and how far it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int = 0
    champion: str | None = None
    challenger: str | None = None
    stage: Action | None = None
    """Of the challenger; None without one."""
    share: float = 0.0
    standby: str | None = None
    """The former champion, after a promotion."""
    since_ns: int = 0

    def after(self, entry: Entry) -> Rollout:
        """Return the state after ``entry``.

        Raises:
            InputError: That step is not possible now; says which are.
        """
        if entry.revision != self.revision + 1:
            raise InputError(
                f"a step must come after revision {self.revision}, got {entry.revision}: another "
                "one was faster; look at the state again (`fusion models list`)"
            )
        allowed = self.possible()
        if entry.action not in allowed:
            raise InputError(
                f"{entry.version} cannot be {entry.action} now; possible: "
                f"{', '.join(sorted(allowed)) or 'nothing'} ({self.told()})"
            )
        about = allowed[entry.action]
        if about is not None and entry.version != about:
            raise InputError(
                f"{entry.action} must be about {about}, got {entry.version} ({self.told()})"
            )
        changes = self._changes(entry)
        return self.model_copy(
            update=changes | {"revision": entry.revision, "since_ns": entry.t_ns}
        )

    def possible(self) -> dict[Action, str | None]:
        """Return the steps that can follow, each with the version it must be about; None: any."""
        found: dict[Action, str | None] = {}
        if self.challenger is None:
            found[Action.LOADED] = None
            if self.standby is not None:
                found[Action.ROLLED_BACK] = self.champion
                found[Action.RETIRED] = self.standby
            return found
        if self.stage in {Action.LOADED, Action.PROBED}:
            found[Action.REFUSED] = self.challenger
            # It scores nothing yet: the champion is still watched by the one before it.
            if self.standby is not None:
                found[Action.ROLLED_BACK] = self.champion
                found[Action.RETIRED] = self.standby
        else:
            found[Action.ROLLED_BACK] = self.challenger
        following = {
            Action.LOADED: {Action.PROBED},
            # The very first version has nobody to be compared with.
            Action.PROBED: {Action.CHAMPION if self.champion is None else Action.SHADOW},
            Action.SHADOW: {Action.CANARY, Action.CHAMPION},
            Action.CANARY: {Action.CANARY, Action.CHAMPION},
        }
        assert self.stage is not None, "a challenger has a stage"
        return found | dict.fromkeys(following[self.stage], self.challenger)

    def told(self) -> str:
        """Return the state in words."""
        if self.challenger is not None:
            at = f"{self.challenger} is {self.stage}"
            if self.stage is Action.CANARY:
                at += f" on {self.share:.0%} of the assets"
            return f"{at}; the champion is {self.champion or 'none yet'}"
        if self.standby is not None:
            return f"the champion is {self.champion}, {self.standby} stands by"
        return f"the champion is {self.champion or 'none yet'}"

    def role_of(self, version: str) -> str:
        """Return in a word or two what ``version`` does; "" where it has no role.

        Example:
            >>> Rollout(champion="1", challenger="2", stage=Action.CANARY, share=0.1).role_of("2")
            'canary on 10% of the assets'
        """
        if version == self.champion:
            return "champion"
        if version == self.standby:
            return "stands by"
        if version != self.challenger:
            return ""
        where = f" on {self.share:.0%} of the assets" if self.stage is Action.CANARY else ""
        return f"{self.stage}{where}"

    def _changes(self, entry: Entry) -> dict[str, object]:
        nobody: dict[str, object] = {"challenger": None, "stage": None, "share": 0.0}
        forward: dict[str, object] = {"stage": entry.action, "share": entry.share}
        former: dict[str, object] = {"champion": self.standby, "standby": None}
        back = former if entry.version == self.champion else nobody
        changes: dict[Action, dict[str, object]] = {
            Action.LOADED: forward | {"challenger": entry.version},
            Action.PROBED: forward,
            # Only one at a time scores beside the champion; one that is refused displaces nobody.
            Action.SHADOW: forward | {"standby": None},
            Action.CANARY: forward,
            Action.CHAMPION: nobody | {"champion": entry.version, "standby": self.champion},
            Action.REFUSED: nobody,
            Action.ROLLED_BACK: back,
            Action.RETIRED: {"standby": None},
        }
        return changes[entry.action]


class Roles(NamedTuple):
    """Which version's alarms operators see of an asset, and which one scores in shadow."""

    speaks: str
    listens: str | None


def replayed(entries: Iterable[Entry]) -> Rollout:
    """Return the state after ``entries``, from the first on.

    Raises:
        InputError: They are no journal: a step does not follow from those before.
    """
    state = Rollout()
    for entry in entries:
        state = state.after(entry)
    return state


def roles_of(state: Rollout, address: str, addresses: Sequence[str]) -> Roles | None:
    """Return who watches the asset at ``address``, one of all ``addresses``; None: no champion.

    A canary gets the share of the assets, rounded up: at least one. Which they are hangs on their
    addresses alone, so every process comes to the same answer.
    """
    champion = state.champion
    if champion is None:
        return None
    if state.stage is Action.SHADOW:
        return Roles(champion, state.challenger)
    if state.stage is Action.CANARY and state.challenger is not None:
        if address in canaries(addresses, state.share):
            return Roles(state.challenger, champion)
        return Roles(champion, state.challenger)
    return Roles(champion, state.standby)


def canaries(addresses: Sequence[str], share: float) -> set[str]:
    """Return the assets that a canary with ``share`` watches.

    Example:
        >>> assets = [f"pump-{i}" for i in range(10)]
        >>> few, more = canaries(assets, 0.1), canaries(assets, 0.5)
        >>> len(few), len(more), few < more
        (1, 5, True)
    """
    ranked = sorted(addresses, key=lambda each: hashlib.sha256(each.encode()).digest())
    return set(ranked[: math.ceil(share * len(ranked))])
