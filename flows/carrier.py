"""The way to a broker that may be away: one thread, one bundle, nobody waits who does not want to.

Kafka's client can take half a minute to say that nobody answers. A thread is the simplest thing
that keeps a sender going meanwhile, and works for every publisher there is; short time limits would
give up on slow lines that do deliver.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from fusion.ports import Publisher
from fusion.schema import Message

CLOSE_WAIT_S = 2.0


class BackgroundCarrier:
    """Implements :class:`fusion.stream.spool.Carrier` with a thread.

    ``open_remote`` is called in it before the first bundle, and again after a failure.
    """

    def __init__(self, open_remote: Callable[[], Publisher]) -> None:
        self._open_remote = open_remote
        self._remote: Publisher | None = None
        self._bundles: queue.SimpleQueue[Sequence[Message] | None] = queue.SimpleQueue()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._error: BaseException | None = None
        # A daemon: the end of the process must not wait for a broker that is away.
        self._thread = threading.Thread(target=self._work, name="spool-carrier", daemon=True)
        self._thread.start()

    def send(self, messages: Sequence[Message]) -> None:
        """Begin to publish ``messages``; only after the bundle before has finished."""
        assert self._is_idle.is_set(), "one bundle at once"
        self._error = None
        self._is_idle.clear()
        self._bundles.put(messages)

    def finished(self, *, wait_s: float) -> bool:
        """Return whether the broker has the bundle; False while nobody knows, after ``wait_s``."""
        if not self._is_idle.wait(wait_s):
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def close(self) -> None:
        """Close the connection, at once when the broker is away."""
        self._bundles.put(None)
        self._thread.join(CLOSE_WAIT_S)

    def _work(self) -> None:
        for messages in iter(self._bundles.get, None):
            try:
                if self._remote is None:
                    self._remote = self._open_remote()
                self._remote.publish(messages)
            except BaseException as error:  # noqa: BLE001 finished() raises it
                self._error = error
            has_failed = self._error is not None
            self._is_idle.set()
            if has_failed:
                self._drop_remote()
        self._drop_remote()

    def _drop_remote(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            # Whatever it says, it was of no use before: what it held is sent again by the next one,
            # and this thread must go on.
            with contextlib.suppress(Exception):
                remote.close()
