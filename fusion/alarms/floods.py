"""Alarm floods: more alarms than a person can answer, by asset, the first of each named.

A flood begins with more than 10 annunciated alarms in 10 minutes for one operator and ends when
fewer than 5 came in the last 10 (ISA-18.2-2016, 16.5; EEMUA 191). Only what is announced counts:
advisories and hidden alarms do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fusion.plant import NANOSECONDS

WINDOW_NS = 600 * NANOSECONDS
BEGINS_ABOVE = 10
ENDS_BELOW = 5
MAX_KEPT = 200
"""Of more alarms in ten minutes the oldest are let go; the flood is none the less one."""


class Announced(NamedTuple):
    """One alarm that an operator heard."""

    t_ns: int
    asset: str
    name: str


class FloodWatch:
    """Follows the alarms of one operator's plants.

    Example:
        >>> watch = FloodWatch()
        >>> for second in range(11):
        ...     watch.announce(Announced(second * NANOSECONDS, "pump", f"a{second}"))
        >>> watch.is_flood, watch.first_outs
        (True, {'pump': 'a0'})
    """

    def __init__(self) -> None:
        self.is_flood = False
        self.first_outs: dict[str, str] = {}
        """The first alarm of each asset in the flood that goes on."""
        self._recent: list[Announced] = []

    @property
    def count(self) -> int:
        """How many alarms were announced in the last ten minutes."""
        return len(self._recent)

    def announce(self, announced: Announced) -> None:
        """Count one alarm."""
        self.pass_time(announced.t_ns)
        self._recent = [*self._recent[1 - MAX_KEPT :], announced]
        if self.count > BEGINS_ABOVE:
            self.is_flood = True
        if self.is_flood:
            for each in self._recent:
                self.first_outs.setdefault(each.asset, each.name)

    def pass_time(self, t_ns: int) -> None:
        """Forget what is older than ten minutes; a flood may end by that."""
        if self._recent and self._recent[0].t_ns <= t_ns - WINDOW_NS:
            self._recent = [each for each in self._recent if each.t_ns > t_ns - WINDOW_NS]
        if self.is_flood and self.count < ENDS_BELOW:
            self.is_flood, self.first_outs = False, {}

    def by_asset(self) -> dict[str, int]:
        """Return how many of the last ten minutes' alarms each asset has, most first."""
        counts: dict[str, int] = {}
        for each in self._recent:
            counts[each.asset] = counts.get(each.asset, 0) + 1
        return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))

    def snapshot(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "is_flood": self.is_flood,
            "first_outs": self.first_outs,
            "recent": [list(each) for each in self._recent],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self.is_flood = bool(snapshot["is_flood"])
        self.first_outs = dict(snapshot["first_outs"])
        self._recent = [Announced(*each) for each in snapshot["recent"]]
