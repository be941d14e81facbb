"""Parts that belong to ticks: the oldest tick is found without looking at all of them."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

Part = TypeVar("Part")


class ByTick(Generic[Part]):
    """Lists of parts by tick, in the order in which they were added.

    Example:
        >>> said = ByTick[str]()
        >>> for tick, word in ((7, "c"), (5, "a"), (5, "b")):
        ...     said.add(tick, word)
        >>> said.first(), said.pop(5), said.first(), said.pop(6)
        (5, ['a', 'b'], 7, [])
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[Part]] = {}
        self._ticks: list[int] = []
        """A heap; ticks that were taken out of order stay in it until they come up."""

    def add(self, tick: int, part: Part) -> None:
        """Keep ``part`` for ``tick``."""
        parts = self._parts.get(tick)
        if parts is None:
            self._parts[tick] = [part]
            heappush(self._ticks, tick)
        else:
            parts.append(part)

    def pop(self, tick: int) -> list[Part]:
        """Return the parts of ``tick`` and forget them."""
        return self._parts.pop(tick, [])

    def first(self) -> int | None:
        """Return the oldest tick that has parts, None when there is none."""
        ticks = self._ticks
        while ticks and ticks[0] not in self._parts:
            heappop(ticks)
        return ticks[0] if ticks else None

    def last(self) -> int | None:
        """Return the newest tick that has parts, None when there is none."""
        return max(self._parts, default=None)
