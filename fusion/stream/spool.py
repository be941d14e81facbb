"""What a sender says while the broker is away waits on disk and is sent first when it is back.

::

    publish ─┬─ nothing waits ──▶ carrier ──▶ broker
             │                       ▲ oldest first, one bundle at once
             └─ else ──▶ local log ──┘ acknowledged? then commit, then trim

The local log is an embedded broker of its own with one partition, so everything keeps its order. A
crash between the broker's acknowledgement and the local commit repeats messages, and so does an
answer that never came. That is harmless: readers drop repeats by epoch and sequence number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fusion.errors import (
    BrokerUnavailableError,
    InputError,
    ObjectStoreUnavailableError,
)
from fusion.ports import Clock, Publisher, Source
from fusion.schema import MAX_RECORD_BYTES, Message, TopicPartition
from fusion.stream.spool_log import SpoolLog

PATIENCE_S = 1.0
"""A message that the broker does not acknowledge in this time goes to disk."""
FORWARD_S = 0.05
"""Of one publish call for what waits, while the broker answers: half a period at 10 Hz."""
MAX_BUNDLE_BYTES = 4 * 1024 * 1024
MIN_BUNDLE_BYTES = 64 * 1024
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0

_NANOSECONDS = 1_000_000_000


class Carrier(Protocol):
    """Takes one bundle at once to the broker, while its caller goes on."""

    def send(self, messages: Sequence[Message]) -> None:
        """Begin to publish ``messages``; only after the bundle before has finished."""
        ...

    def finished(self, *, wait_s: float) -> bool:
        """Return whether the broker has the bundle; False while nobody knows, after ``wait_s``.

        Raises:
            BrokerUnavailableError, ObjectStoreUnavailableError: The bundle has finished without an
                acknowledgement.
            FusionError: So it has, and somebody has to mend something first.
        """
        ...

    def close(self) -> None:
        """Free everything, without waiting for a broker that is away."""
        ...


@dataclass(slots=True)
class _Flight:
    """A bundle on its way. Local records below ``end`` are done with when it arrives."""

    end: int
    num_bytes: int
    t_began_ns: int


class SpoolingPublisher:
    """Implements :class:`fusion.ports.Publisher` for one sender, which never waits long.

    A call takes at most ``PATIENCE_S``, once per outage; while the broker is away it takes one
    write to the local log. Sending goes on inside the calls, so a sender that falls silent calls
    :meth:`flush` now and then. Not for several threads; the local log belongs to one process.

    Args:
        carrier: The way to the broker.
        local: Writes the local log, in the group that ``local_source`` reads in.
        local_source: Reads ``SPOOL_TOPIC`` of the local log.
        trim: Deletes what lies before a position of the local log.
        max_bytes: What may wait.
        max_record_bytes: How large a value the carrier takes.
        clock: Decides when to try again.
        on_close: Called last by :meth:`close`.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        local: Publisher,
        local_source: Source,
        trim: Callable[[Mapping[TopicPartition, int]], None],
        max_bytes: int,
        clock: Clock,
        max_record_bytes: int = MAX_RECORD_BYTES,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._carrier = carrier
        self._log = SpoolLog(local, local_source, trim=trim, max_bytes=max_bytes)
        self._max_record_bytes = max_record_bytes
        self._clock = clock
        self._on_close = on_close
        self._flight: _Flight | None = None
        self._is_up = False
        self._num_failures = 0
        self._t_next_try_ns = 0
        self._bundle_bytes = MAX_BUNDLE_BYTES
        self._last_error: Exception | None = None

    @property
    def waiting_records(self) -> int:
        """How many messages wait on disk."""
        return self._log.num_records

    @property
    def waiting_bytes(self) -> int:
        """How much waits on disk."""
        return self._log.num_bytes

    @property
    def last_error(self) -> Exception | None:
        """Why the last attempt failed; None once one has succeeded."""
        return self._last_error

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Bring ``messages`` to the broker or, behind what waits already, to the disk.

        Raises:
            SpoolFullError: Nothing of this call was kept; call it again later.
            InputError: A message is larger than a broker takes, and would stop all behind it.
                Nothing of this call was kept.
            FusionError: Somebody has to mend something, such as a password. What came waits on
                disk, so do not call again; it is tried again with later calls, which say so too.
        """
        if commit is not None:
            raise ValueError("positions of a group belong to a reader; a sender has none to commit")
        _require_sendable(messages, self._max_record_bytes)
        if not messages:
            return
        try:
            self._forward(FORWARD_S if self._is_up else 0.0)
            under_way = self._flight
            if self._sent_at_once(messages):
                return
        except Exception:
            # Whatever it is, and whoever has to mend it: what the plant says now comes only once.
            self._log.append(messages, why=self._last_error)
            raise
        num_bytes = self._log.append(messages, why=self._last_error)
        if self._flight is not None and self._flight is not under_way:
            # If it arrives after all, what was written now need not go again.
            self._flight.end, self._flight.num_bytes = self._log.end, num_bytes
        self._forward(0.0)

    def flush(self, timeout_s: float) -> bool:
        """Send what waits for at most ``timeout_s``; return whether everything is on the broker."""
        t_end_ns = self._clock.monotonic_ns() + round(timeout_s * _NANOSECONDS)
        while True:
            left_s = max(0.0, (t_end_ns - self._clock.monotonic_ns()) / _NANOSECONDS)
            self._forward(left_s)
            if not self.waiting_records and self._flight is None:
                return True
            if self._clock.monotonic_ns() >= t_end_ns:
                return False
            if self._flight is None:
                until_try_s = (self._t_next_try_ns - self._clock.monotonic_ns()) / _NANOSECONDS
                self._clock.sleep(min(left_s, max(until_try_s, 0.01)))

    def close(self) -> None:
        """Free everything. What waits stays on disk for the next one."""
        self._carrier.close()
        self._log.close()
        self._on_close()

    def _sent_at_once(self, messages: Sequence[Message]) -> bool:
        """Return whether ``messages`` are on the broker, past the disk: nothing waits there."""
        if self.waiting_records or self._flight is not None or not self._is_due:
            return False
        flight = _Flight(self._log.end, 0, self._clock.monotonic_ns())
        self._begin(messages, flight)
        return self._arrived(wait_s=PATIENCE_S)

    def _forward(self, budget_s: float) -> None:
        """See what became of the bundle under way and begin the next one, for ``budget_s``."""
        t_end_ns = self._clock.monotonic_ns() + round(budget_s * _NANOSECONDS)
        self._tidy()
        while True:
            if self._flight is not None:
                self._arrived(
                    wait_s=max(0.0, (t_end_ns - self._clock.monotonic_ns()) / _NANOSECONDS)
                )
            if self._flight is not None or not self.waiting_records or not self._is_due:
                return
            self._begin_oldest()
            if self._clock.monotonic_ns() >= t_end_ns:
                return

    def _begin_oldest(self) -> None:
        """Send as many of the oldest waiting records as one bundle may have."""
        messages, end, num_bytes = self._log.oldest(max_bytes=self._bundle_bytes)
        self._begin(messages, _Flight(end, num_bytes, self._clock.monotonic_ns()))

    def _begin(self, messages: Sequence[Message], flight: _Flight) -> None:
        # A copy: its caller may use the list again before the bundle has gone.
        self._carrier.send(tuple(messages))
        self._flight = flight

    def _arrived(self, *, wait_s: float) -> bool:
        """Return whether the bundle under way is on the broker now; draw the consequences."""
        flight = self._flight
        assert flight is not None
        try:
            is_finished = self._carrier.finished(wait_s=wait_s)
        except Exception as failed:
            self._flight = None
            self._back_off(failed)
            if isinstance(failed, (BrokerUnavailableError, ObjectStoreUnavailableError)):
                return False
            raise
        if not is_finished:
            taken_ns = self._clock.monotonic_ns() - flight.t_began_ns
            self._is_up = self._is_up and taken_ns < PATIENCE_S * _NANOSECONDS
            return False
        self._flight = None
        self._is_up, self._num_failures, self._last_error = True, 0, None
        self._bundle_bytes = min(2 * self._bundle_bytes, MAX_BUNDLE_BYTES)
        self._log.drop(end=flight.end, num_bytes=flight.num_bytes)
        self._tidy()
        return True

    def _back_off(self, failed: Exception) -> None:
        """Wait longer after every failure, never the same time as others, and send less at once."""
        backoff_s = min(FIRST_BACKOFF_S * 2.0**self._num_failures, MAX_BACKOFF_S)
        backoff_s *= random.uniform(0.5, 1.0)  # noqa: S311 spreads senders, protects nothing
        self._t_next_try_ns = self._clock.monotonic_ns() + round(backoff_s * _NANOSECONDS)
        self._is_up, self._last_error = False, failed
        self._num_failures = min(self._num_failures + 1, 10)
        # On a slow line a large bundle would time out for ever.
        self._bundle_bytes = max(self._bundle_bytes // 4, MIN_BUNDLE_BYTES)

    @property
    def _is_due(self) -> bool:
        return self._t_next_try_ns <= self._clock.monotonic_ns()

    def _tidy(self) -> None:
        """Delete what is on the broker; on a full disk again later."""
        try:
            self._log.tidy()
        except BrokerUnavailableError as failed:
            self._last_error = failed


def _require_sendable(messages: Sequence[Message], max_bytes: int) -> None:
    for message in messages:
        if len(message.value) > max_bytes:
            raise InputError(
                f"a record must have at most {max_bytes} bytes, one for {message.topic} has "
                f"{len(message.value)}; publish a reference to it, or smaller pieces"
            )
