"""The machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """Implements :class:`fusion.ports.Clock` with the time of this machine."""

    def now_ns(self) -> int:
        """Return the time since 1970-01-01 UTC in nanoseconds."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return the time since the machine started, in nanoseconds."""
        return time.monotonic_ns()

    def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds; at once when it is not positive."""
        if duration_s > 0:
            time.sleep(duration_s)
