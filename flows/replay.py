"""Plays recorded payloads into the broker, at a chosen speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flows.replay_payloads import sent_ns
from fusion.errors import InputError, SpoolFullError
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.plant.sending import Trace
from fusion.ports import Clock, Publisher
from fusion.schema import Message, Payload

MAX_BATCH_MESSAGES = 512
MAX_BATCH_BYTES = 4 * 1024 * 1024
MIN_SLEEP_S = 0.02
"""Shorter waits are not worth a publish of their own: what is due within them goes together."""
MAX_PAUSE_S = 5.0
FULL_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What has been published so far."""

    num_messages: Mapping[str, int]
    """Per stream."""
    num_bytes: int
    t_event_ns: int
    """Event time up to which everything is published; 0 before the first."""
    is_interrupted: bool = False


def replay(
    payloads: Iterable[Payload],
    publisher: Publisher,
    plant: Plant,
    *,
    speed: float | None,
    clock: Clock,
    on_progress: Callable[[ReplayReport], None] = lambda _: None,
    source: str = "replay",
    max_pause_s: float = MAX_PAUSE_S,
    trace: Trace | None = None,
) -> ReplayReport:
    """Publish ``payloads`` and return what was published.

    ``speed`` is event time per wall time; None is as fast as the broker takes them. Pauses of the
    recording last at most ``max_pause_s`` of wall time. A spool that is full is waited for. Ctrl-C
    ends the replay between two publish calls: what is reported is on the broker, or in its spool,
    whole. Every replay is a new epoch of its streams.

    Raises:
        InputError: ``speed`` is not positive, or a payload lies in the future, where the plant's
            ``max_future_s`` would refuse it.
        BrokerUnavailableError: What the last progress reported is published, the rest is not.
    """
    if speed is not None and speed <= 0:
        raise InputError(
            f"speed must be above 0, got {speed:g}; leave it out to play at full speed"
        )
    epoch = f"{source}-{clock.now_ns()}"
    senders = {
        stream.name: StreamSender(plant, stream.name, source=source, epoch=epoch, trace=trace)
        for stream in plant.streams
    }
    outbox = _Outbox(publisher, clock, on_progress)
    pace = None if speed is None else _Pace(clock, speed, max_pause_s)
    latest_ns = clock.now_ns() + round(plant.max_future_s * NANOSECONDS)
    try:
        for payload in payloads:
            t_ns = sent_ns(payload)
            if t_ns > latest_ns:
                raise InputError(
                    f"recordings must lie in the past, but stream {payload.stream!r} reaches "
                    f"{(t_ns - latest_ns) / NANOSECONDS:.0f} s into the future; start it earlier"
                )
            if pace is not None and (wait_s := pace.wait_s(t_ns)) >= MIN_SLEEP_S:
                outbox.publish()
                clock.sleep(wait_s)
            outbox.add(payload.stream, senders[payload.stream].message(payload), t_ns)
        outbox.publish()
    except KeyboardInterrupt:
        return outbox.report(is_interrupted=True)
    return outbox.report()


class _Pace:
    """When each payload is due."""

    def __init__(self, clock: Clock, speed: float, max_pause_s: float) -> None:
        self._clock = clock
        self._speed = speed
        self._max_pause_ns = round(max_pause_s * NANOSECONDS)
        self._last_event_ns: int | None = None
        self._due_ns = clock.monotonic_ns()

    def wait_s(self, t_event_ns: int) -> float:
        """Return the seconds until the payload of ``t_event_ns`` is due; negative when late."""
        if self._last_event_ns is not None:
            pause_ns = round((t_event_ns - self._last_event_ns) / self._speed)
            self._due_ns += min(pause_ns, self._max_pause_ns)
        self._last_event_ns = t_event_ns
        return (self._due_ns - self._clock.monotonic_ns()) / NANOSECONDS


class _Outbox:
    """Gathers messages into publish calls of bounded size, and counts what went out."""

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        on_progress: Callable[[ReplayReport], None],
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._on_progress = on_progress
        self._waiting: list[tuple[str, Message, int]] = []
        self._waiting_bytes = 0
        self._num_messages: Counter[str] = Counter()
        self._num_bytes = 0
        self._t_event_ns = 0

    def add(self, stream: str, message: Message, t_event_ns: int) -> None:
        """Take ``message``; publish when enough has gathered."""
        self._waiting.append((stream, message, t_event_ns))
        self._waiting_bytes += len(message.value)
        if len(self._waiting) >= MAX_BATCH_MESSAGES or self._waiting_bytes >= MAX_BATCH_BYTES:
            self.publish()

    def publish(self) -> None:
        """Publish everything that waits."""
        if not self._waiting:
            return
        messages = [message for _, message, _ in self._waiting]
        while True:
            try:
                self._publisher.publish(messages)
                break
            except SpoolFullError:
                # A recording can wait; what a plant says now could not.
                self._clock.sleep(FULL_WAIT_S)
        self._num_messages.update(stream for stream, _, _ in self._waiting)
        self._num_bytes += self._waiting_bytes
        self._t_event_ns = self._waiting[-1][2]
        self._waiting, self._waiting_bytes = [], 0
        self._on_progress(self.report())

    def report(self, *, is_interrupted: bool = False) -> ReplayReport:
        """Return what has been published."""
        return ReplayReport(
            dict(self._num_messages), self._num_bytes, self._t_event_ns, is_interrupted
        )
