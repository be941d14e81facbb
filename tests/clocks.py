"""Clocks for tests: time passes when somebody sleeps, and when the test says so."""

from __future__ import annotations

from fusion.plant import NANOSECONDS

START_NS = 1_767_225_600 * NANOSECONDS
"""2026-01-01 UTC."""


class HandClock:
    """Implements :class:`fusion.ports.Clock`; ``slept_s`` are the sleeps so far."""

    def __init__(self, t_ns: int = START_NS) -> None:
        self.t_ns = t_ns
        self._passed_ns = 1_000 * NANOSECONDS
        self.slept_s: list[float] = []

    def now_ns(self) -> int:
        return self.t_ns

    def monotonic_ns(self) -> int:
        return self._passed_ns

    def pass_s(self, duration_s: float) -> None:
        assert duration_s >= 0, "time goes on; set_s changes the wall clock"
        self.t_ns += round(duration_s * NANOSECONDS)
        self._passed_ns += round(duration_s * NANOSECONDS)

    def set_s(self, step_s: float) -> None:
        """Step the wall clock, forward or back, as NTP or an operator does: no time passes."""
        self.t_ns += round(step_s * NANOSECONDS)

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.pass_s(duration_s)
