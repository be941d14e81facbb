"""Which streams are idle: silent by this process's clock, read to the end, and behind the others.

A silent stream holds every tick open, because its next record may belong into one. All three
conditions are needed to let go of it: silence alone also happens when this process is the slow one
(the broker still holds unread records of it), or when the whole plant pauses (no stream is behind
the others, and closing ticks early would tear apart what belongs together).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fusion.plant import NANOSECONDS, Plant


class IdleWatch:
    """Remembers when each stream last spoke, by a clock that never jumps."""

    def __init__(self, plant: Plant, *, now_ns: int) -> None:
        self._max_age_ns = {s.name: round(s.max_age_s * NANOSECONDS) for s in plant.streams}
        self._lateness_ns = {s.name: plant.lateness_ns(s) for s in plant.streams}
        self._last_heard_ns = {stream.name: now_ns for stream in plant.streams}

    def heard(self, streams: Iterable[str], *, now_ns: int) -> None:
        """Note that ``streams`` spoke at ``now_ns``."""
        for stream in streams:
            self._last_heard_ns[stream] = now_ns

    def suspects(self, newest_ns: Mapping[str, int], *, now_ns: int) -> list[str]:
        """Return the streams that are silent and behind; idle are those that are read to the end.

        ``newest_ns`` is the newest event time per stream that has spoken at all.
        """
        if not newest_ns:
            return []
        leader_ns = max(newest_ns.values())
        return [
            stream
            for stream, max_age_ns in self._max_age_ns.items()
            if now_ns - self._last_heard_ns[stream] > max_age_ns
            and leader_ns - newest_ns.get(stream, 0) > max_age_ns + self._lateness_ns[stream]
        ]
