"""Which plants stand still: records come, and no tick closes.

One stream whose clock stopped, or that repeats an old record for ever, holds every tick of its
plant: everything is read, nothing fails, and nothing is scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion.plant import NANOSECONDS

if TYPE_CHECKING:
    # Whoever only answers questions of health must not have the model in memory for that.
    from fusion.stream.figures import LiveFigures, PlantFigures

PATIENCE_S = 60.0
PATIENCE_TICKS = 20


@dataclass(frozen=True, slots=True)
class _Since:
    """When a plant's watermark last moved, and how far its streams were then."""

    watermark_ns: int | None
    newest_ns: int
    monotonic_ns: int


class Standstill:
    """Remembers when each plant's watermark last moved. Another thread may ask."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}
        self._stuck_s: dict[str, float] = {}

    def see(self, figures: LiveFigures) -> None:
        """Note where the plants stand now; those that are gone are forgotten."""
        since: dict[str, _Since] = {}
        stuck_s: dict[str, float] = {}
        for each in figures.plants:
            before, newest_ns = self._since.get(each.plant), max(each.newest_ns.values(), default=0)
            if before is None or before.watermark_ns != each.watermark_ns:
                before = _Since(each.watermark_ns, newest_ns, figures.monotonic_ns)
            since[each.plant] = before
            still_s = (figures.monotonic_ns - before.monotonic_ns) / NANOSECONDS
            if newest_ns > before.newest_ns and still_s > _patience_s(each):
                stuck_s[each.plant] = round(still_s, 1)
        self._since, self._stuck_s = since, stuck_s

    def stuck_s(self) -> dict[str, float]:
        """Return for how many seconds each plant that stands still has done so."""
        return self._stuck_s


def _patience_s(plant: PlantFigures) -> float:
    return max(PATIENCE_S, PATIENCE_TICKS * plant.tick_s)
