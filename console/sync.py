"""What one tab of a browser must be told next, so that it shows the picture and nothing else.

A tab has no queue: it has the revision that it was told last. What changed since then is looked up
when the tab can take it, each alarm once and as it stands now. A slow tab therefore misses steps in
between and never the state, and costs no memory. The first message of a connection is everything,
and every message carries the counts whole, so no reconnect can leave a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from console.freshness import stale_since_ns
from console.picture import Picture, Shown
from console.slugs import slug
from fusion.plant import NANOSECONDS

RenderRow = Callable[[Shown], str]


@dataclass(slots=True)
class Tab:
    """One tab: what it may see, what it was told."""

    who: str
    addresses: frozenset[str]
    wants_rows: bool
    """Whether its page lists alarms."""
    render_row: RenderRow
    _epoch: str = ""
    _num_events: int = -1
    _revision: int = -1

    def is_behind(self, picture: Picture) -> bool:
        """Whether there is something to tell."""
        return self._epoch != picture.epoch or self._revision != picture.revision

    def next(self, picture: Picture, *, now_ns: int, away_since_ns: int | None) -> dict[str, Any]:
        """Return the next message: everything at first, then what changed since the last one."""
        is_first = self._epoch != picture.epoch
        since = -1 if is_first else self._revision
        message: dict[str, Any] = {
            "epoch": picture.epoch,
            "from": None if is_first else since,
            "revision": picture.revision,
            "is_complete": picture.is_complete,
            "has_events": self._num_events != picture.num_events,
            "away_since_s": _seconds(away_since_ns),
            "counts": asdict(picture.counts(self.addresses)),
            "refused": []
            if is_first
            else [
                {"name": e.state.name, "why": e.note}
                for e in picture.refused(self.who, since=since)
                if e.state.plant in self.addresses
            ],
            "plants": [_plant(picture, a, now_ns) for a in sorted(self.addresses)],
        }
        if self.wants_rows:
            changed = (
                picture.alarms(self.addresses)
                if is_first
                else picture.changed(self.addresses, since=since)
            )
            message |= self._rows(list(changed))
        else:
            message["changed"] = [alarm_id(s) for s in picture.changed(self.addresses, since=since)]
        self._epoch, self._revision = picture.epoch, picture.revision
        self._num_events = picture.num_events
        return message

    def _rows(self, changed: list[Shown]) -> dict[str, Any]:
        return {
            "rows": [
                {"id": alarm_id(shown), "html": self.render_row(shown)}
                for shown in changed
                if shown.is_listed
            ],
            "gone": [alarm_id(shown) for shown in changed if not shown.is_listed],
        }


def alarm_id(shown: Shown) -> str:
    """Return the id of an alarm in pages and paths: the plant's slug and the alarm's name."""
    return f"{slug(shown.state.plant)}:{shown.state.name}"


def _plant(picture: Picture, address: str, now_ns: int) -> dict[str, Any]:
    of_plant = picture.plants[address]
    return {
        "slug": slug(address),
        "surprise": None if of_plant.score is None else round(of_plant.score.surprise, 2),
        "mode": None if of_plant.score is None else of_plant.score.mode,
        "stale_since_s": _seconds(stale_since_ns(of_plant, now_ns=now_ns)),
        **asdict(picture.counts(frozenset({address}))),
    }


def _seconds(t_ns: int | None) -> float | None:
    return None if t_ns is None else t_ns / NANOSECONDS
