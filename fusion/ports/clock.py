"""Time, and waiting."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The time, so that tests can advance it."""

    def now_ns(self) -> int:
        """Return the time since 1970-01-01 UTC in nanoseconds.

        For stamps, and to judge event times. It jumps when somebody sets the machine's clock.
        """
        ...

    def monotonic_ns(self) -> int:
        """Return the time since some moment in nanoseconds; it never jumps.

        For every interval: pauses, patience, silence. Means nothing beside another clock's.
        """
        ...

    def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds."""
        ...
