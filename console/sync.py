"""What one tab of a browser must be told next, so that it shows the picture and nothing else.

A tab has no queue: it has the revision that it was told last. What changed since then is looked up
when the tab can take it, each alarm once and as it stands now. A slow tab therefore misses steps in
between and never the state, and costs no memory. The first message of a connection is everything,
and every message carries the counts whole, so no reconnect can leave a wrong one.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from console.freshness import stale_since_ns
from console.picture import Picture, Shown
from console.slugs import slug
from console.squeezing import deflated
from fusion.plant import NANOSECONDS

RenderRow = Callable[[Shown, bool], str]
"""The row of an alarm, with buttons for those who may act."""
EVERYTHING = -1
"""Before the first revision."""
MAX_SHARED = 256


@dataclass(frozen=True, slots=True)
class View:
    """What a tab may see; tabs of one view that were told the same are told the same next."""

    addresses: frozenset[str]
    wants_rows: bool
    """Whether its page lists alarms."""
    may_act: frozenset[str]
    """Of ``addresses``, those whose alarms it may answer: their rows have buttons."""


class Shared:
    """Text that many tabs are told; squeezed when the first of them wants it so."""

    def __init__(self, text: str) -> None:
        self.plain = text.encode()

    @cached_property
    def squeezed(self) -> bytes:
        """The text as a piece of a stream of gzip."""
        return deflated(self.plain)


@dataclass(frozen=True, slots=True)
class Told:
    """A message: what is the tab's own, then what others are told too. Together JSON."""

    own: bytes
    shared: Shared

    @property
    def text(self) -> bytes:
        """The whole message."""
        return self.own + self.shared.plain


class Wording:
    """Puts what changed into JSON, once for all tabs that are to be told the same.

    Many tabs are told at the same moments, so nearly all of them share one text.
    """

    def __init__(self, render_row: RenderRow) -> None:
        self._render_row = render_row
        self._kept: OrderedDict[tuple[object, ...], Shared] = OrderedDict()

    def of(
        self, picture: Picture, view: View, *, since: int, has_events: bool, now_ns: int
    ) -> Shared:
        """Return the members of the message that do not hang on who asks."""
        addresses = sorted(view.addresses)
        stale = tuple(stale_since_ns(picture.plants[a], now_ns=now_ns) for a in addresses)
        key = (picture.epoch, picture.revision, view, since, has_events, picture.is_complete, stale)
        shared = self._kept.get(key)
        if shared is None:
            members = self._members(picture, view, since, has_events=has_events)
            members["plants"] = [
                _plant(picture, a, since_ns) for a, since_ns in zip(addresses, stale, strict=True)
            ]
            shared = self._kept[key] = Shared(json.dumps(members)[1:])
            while len(self._kept) > MAX_SHARED:
                self._kept.popitem(last=False)
        return shared

    def _members(
        self, picture: Picture, view: View, since: int, *, has_events: bool
    ) -> dict[str, Any]:
        members: dict[str, Any] = {
            "epoch": picture.epoch,
            "from": None if since == EVERYTHING else since,
            "revision": picture.revision,
            "is_complete": picture.is_complete,
            "has_events": has_events,
            "counts": asdict(picture.counts(view.addresses)),
        }
        changed = list(picture.changed(view.addresses, since=since))
        if not view.wants_rows:
            return members | {"changed": [alarm_id(shown) for shown in changed]}
        if since == EVERYTHING:
            changed = picture.alarms(view.addresses)
        return members | {
            "rows": [
                {
                    "id": alarm_id(shown),
                    "html": self._render_row(shown, shown.state.plant in view.may_act),
                }
                for shown in changed
                if shown.is_listed
            ],
            "gone": [alarm_id(shown) for shown in changed if not shown.is_listed],
        }


class Tab:
    """One tab: who sits there, what they may see, what they were told."""

    def __init__(self, who: str, view: View, wording: Wording) -> None:
        self._who, self._view, self._wording = who, view, wording
        self._epoch = ""
        self._num_events = self._revision = EVERYTHING

    @property
    def told(self) -> tuple[str, int]:
        """The epoch, and the revision in it, up to which this tab was told."""
        return self._epoch, self._revision

    def is_behind(self, picture: Picture) -> bool:
        """Return whether there is something to tell."""
        return self._epoch != picture.epoch or self._revision != picture.revision

    def next(
        self,
        picture: Picture,
        *,
        now_ns: int,
        away_since_ns: int | None,
        num_waiting: int = 0,
    ) -> Told:
        """Return the next message, JSON: everything at first, then what changed since the last.

        ``num_waiting`` are this person's commands that the broker does not have yet.
        """
        is_first = self._epoch != picture.epoch
        since = EVERYTHING if is_first else self._revision
        addresses = self._view.addresses
        own: dict[str, Any] = {
            "away_since_s": _seconds(away_since_ns),
            "num_waiting": num_waiting,
            "refused": []
            if is_first
            else [
                {"name": e.state.name, "why": e.note}
                for e in picture.refused(self._who, since=since)
                if e.state.plant in addresses
            ],
        }
        has_events = self._num_events != picture.num_events
        shared = self._wording.of(
            picture, self._view, since=since, has_events=has_events, now_ns=now_ns
        )
        self._epoch, self._revision = picture.epoch, picture.revision
        self._num_events = picture.num_events
        return Told(f"{json.dumps(own)[:-1]}, ".encode(), shared)


def alarm_id(shown: Shown) -> str:
    """Return the id of an alarm in pages and paths: the plant's slug and the alarm's name."""
    return f"{slug(shown.state.plant)}:{shown.state.name}"


def _plant(picture: Picture, address: str, stale_ns: int | None) -> dict[str, Any]:
    of_plant = picture.plants[address]
    return {
        "slug": slug(address),
        "surprise": None if of_plant.score is None else round(of_plant.score.surprise, 2),
        "mode": None if of_plant.score is None else of_plant.score.mode,
        "stale_since_s": _seconds(stale_ns),
        **asdict(picture.counts(frozenset({address}))),
    }


def _seconds(t_ns: int | None) -> float | None:
    return None if t_ns is None else t_ns / NANOSECONDS
