"""The steps of a demo: each is announced, timed, and listed in the report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from flows.terminal import CONSOLE


class Story:
    """Announces steps and remembers how long each took, in seconds of the wall clock."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self.durations_s: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce ``title``, run the body, say how long it took."""
        number = len(self.durations_s) + 1
        CONSOLE.rule(f"[bold]{number} of {self._num_steps}  {title}", align="left")
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.durations_s[title] = time.monotonic() - began_s
        CONSOLE.print(f"[dim]{self.durations_s[title]:.1f} s[/dim]")
