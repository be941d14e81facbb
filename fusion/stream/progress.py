"""Which partitions are stuck: there is something to read, and nothing is read.

A consumer can be alive by every other sign, heartbeats included, and yet stand still.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.plant import NANOSECONDS
from fusion.schema import TopicPartition

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one partition is behind, and since when it has not moved."""

    offsets: int
    still_since_ns: int

    def is_stuck(self, *, now_ns: int, patience_s: float = PATIENCE_S) -> bool:
        """Whether records wait and none was read for longer than ``patience_s``."""
        return self.offsets > 0 and now_ns - self.still_since_ns > patience_s * NANOSECONDS


class ProgressWatch:
    """Remembers when each partition last moved, or had nothing to read.

    Example:
        >>> watch, part = ProgressWatch(), TopicPartition("rig.audio", 0)
        >>> watch.see({part: 5}, {part: 9}, now_ns=0)
        >>> watch.see({part: 5}, {part: 12}, now_ns=61 * NANOSECONDS)
        >>> watch.stuck(now_ns=61 * NANOSECONDS)
        {TopicPartition(topic='rig.audio', partition=0): Lag(offsets=7, still_since_ns=0)}
    """

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self.lags: dict[TopicPartition, Lag] = {}
        self.lost: dict[TopicPartition, int] = {}
        """How many offsets were deleted before they were read, where any were."""
        self.has_joined = False
        """Whether the group has said which partitions are ours; that may be none."""
        self.waits_for: str | None = None
        """Why nothing is scored just now, though the loop goes round; None while it is."""

    def see(
        self,
        positions: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        *,
        now_ns: int,
    ) -> None:
        """Note where reading stands in each assigned partition; others are forgotten."""
        lags: dict[TopicPartition, Lag] = {}
        for part, position in positions.items():
            lag = max(0, ends.get(part, position) - position)
            before = self.lags.get(part)
            stands_still = lag > 0 and before is not None and self._positions[part] == position
            since_ns = before.still_since_ns if before and stands_still else now_ns
            lags[part] = Lag(lag, since_ns)
        self.lags, self._positions = lags, dict(positions)

    def stuck(self, *, now_ns: int, patience_s: float = PATIENCE_S) -> dict[TopicPartition, Lag]:
        """Return the partitions that have records to read and have not moved for too long."""
        return {
            part: lag
            for part, lag in self.lags.items()
            if lag.is_stuck(now_ns=now_ns, patience_s=patience_s)
        }
