"""How often somebody may fail to log in (NIST SP 800-63B, section 5.2.2: throttle guesses)."""

from __future__ import annotations

from collections import OrderedDict, deque

from fusion.plant import NANOSECONDS
from fusion.ports import Clock


class FailureLimit:
    """Counts failures by key (a user name, an address); bounded in memory.

    Example:
        >>> class Still:
        ...     def monotonic_ns(self) -> int:
        ...         return 0
        >>> limit = FailureLimit(Still(), most=1, window_s=60)
        >>> limit.wait_s("ada"), limit.fail("ada"), limit.wait_s("ada")
        (0.0, None, 60.0)
    """

    def __init__(
        self, clock: Clock, *, most: int = 5, window_s: float = 300.0, max_keys: int = 10_000
    ) -> None:
        self._clock = clock
        self._most, self._window_ns = most, round(window_s * NANOSECONDS)
        self._max_keys = max_keys
        self._failed_ns: OrderedDict[str, deque[int]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Return how long ``key`` must wait before it may try again, in seconds; 0 when it may."""
        failed = self._recent(key)
        if len(failed) < self._most:
            return 0.0
        return (failed[0] + self._window_ns - self._clock.monotonic_ns()) / NANOSECONDS

    def fail(self, key: str) -> None:
        """Count one failure."""
        failed = self._recent(key)
        failed.append(self._clock.monotonic_ns())
        self._failed_ns[key] = failed
        self._failed_ns.move_to_end(key)
        while len(self._failed_ns) > self._max_keys:
            self._failed_ns.popitem(last=False)

    def succeed(self, key: str) -> None:
        """Forget the failures of ``key``."""
        self._failed_ns.pop(key, None)

    def take_back(self, key: str) -> None:
        """Forget the newest failure of ``key``, and no other."""
        failed = self._recent(key)
        if failed:
            failed.pop()

    def _recent(self, key: str) -> deque[int]:
        failed = self._failed_ns.get(key, deque(maxlen=self._most))
        since_ns = self._clock.monotonic_ns() - self._window_ns
        while failed and failed[0] <= since_ns:
            failed.popleft()
        return failed
