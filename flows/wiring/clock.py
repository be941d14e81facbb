"""The clock."""

from __future__ import annotations

from connectors.system_clock import SystemClock
from fusion.ports import Clock


def open_clock() -> Clock:
    """Return the machine's clock."""
    return SystemClock()
