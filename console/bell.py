"""Wakes every tab when the picture has changed."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Rings for all who wait now; belongs to one event loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, *, timeout_s: float) -> None:
        """Return when it rings, or after ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), timeout_s)
