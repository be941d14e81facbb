"""A circuit breaker: a server that does not answer is left alone for a while, then asked once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from fusion.errors import InferenceUnavailableError

FAILURES_TO_OPEN = 5
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 5.0


class Breaker:
    """Counts failures in a row. For several threads.

    Closed, every call goes through. After ``FAILURES_TO_OPEN`` failures it opens: calls fail at
    once, until the pause is over; then one call tries, and closes it or doubles the pause.
    """

    def __init__(self, what: str, now_s: Callable[[], float]) -> None:
        self._what = what
        self._now_s = now_s
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._closed_until_s: float | None = None
        """When the next try is allowed; None while closed."""
        self._random = random.Random()  # noqa: S311 jitter, no secret

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for one try after each pause."""
        return self._closed_until_s is not None

    def enter(self) -> None:
        """Return when a call may be made.

        Raises:
            InferenceUnavailableError: Not yet.
        """
        with self._lock:
            if self._closed_until_s is None:
                return
            left_s = self._closed_until_s - self._now_s()
            if left_s > 0:
                raise InferenceUnavailableError(
                    f"{self._what} must answer, and did not {self._failures} times in a row; it is "
                    f"asked again in {left_s:.1f} s"
                )
            # This call is the try; others wait for another pause.
            self._closed_until_s = self._now_s() + self._pause_s

    def succeeded(self) -> None:
        """Note that a call was answered."""
        with self._lock:
            self._failures, self._pause_s, self._closed_until_s = 0, FIRST_PAUSE_S, None

    def failed(self) -> None:
        """Note that a call was not answered."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES_TO_OPEN:
                return
            # Many clients must not come back at the same moment.
            jitter = self._random.uniform(0.5, 1.0)
            self._closed_until_s = self._now_s() + jitter * self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
