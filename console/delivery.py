"""How tabs are told: how many listen, how much was sent, how long a change takes to reach one."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHANGES_KEPT = 1_000


class Delivery:
    """Counts. Belongs to the event loop; ``on_delivered`` hears of each message, in seconds."""

    def __init__(self, on_delivered: Callable[[float], None] = lambda _: None) -> None:
        self.num_tabs = 0
        self.num_messages = 0
        self.num_bytes = 0
        self.on_delivered = on_delivered
        self._epoch = ""
        self._changes = deque[tuple[int, int]](maxlen=CHANGES_KEPT)
        """Revisions of the picture, and when they came."""

    def changed(self, epoch: str, revision: int, *, now_ns: int) -> None:
        """Note that the picture has a new revision; in a new epoch they begin anew."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._changes.clear()
        if not self._changes or revision > self._changes[-1][0]:
            self._changes.append((revision, now_ns))

    def sent(self, num_bytes: int, *, epoch: str, since: int | None, now_ns: int) -> None:
        """Note a message with what came after the revision ``since``; None: with everything.

        ``num_bytes`` is its size before it is squeezed.
        """
        self.num_messages += 1
        self.num_bytes += num_bytes
        if since is None or epoch != self._epoch:
            return
        changes = list(self._changes)
        at = bisect_right(changes, (since, 2**63))
        if at < len(changes):  # (the oldest change that the tab had not been told of)
            self.on_delivered((now_ns - changes[at][1]) / 1e9)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count a tab while it listens."""
        self.num_tabs += 1
        try:
            yield
        finally:
            self.num_tabs -= 1
