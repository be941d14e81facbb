"""How the clocks of a plant's streams stand: offset, drift, jumps and skew, from the records alone.

The *delay* of a record is when it was received less its newest event time: how far the stream's
clock lags, plus the way of the record, which only ever adds. So the lowest delays tell the clock
(the clock filter of NTP, RFC 5905 section 10, takes the lowest of eight; here it is about the 5 %
quantile of ten seconds). Drift is the Theil-Sen slope of these, which outliers do not move. All of
it is reported, none of it is ever applied.

Time runs by the receiver's stamps: a sender's clock that stands still or steps back is what is to
be noticed, so it cannot be what measures. Memory per stream is constant.
"""

from __future__ import annotations

import statistics
from bisect import insort
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fusion.alignment.event_time import Stamps
from fusion.plant import NANOSECONDS
from fusion.schema import AudioChunk

SPAN_NS = 10 * NANOSECONDS
"""Delays of this long make one point."""
MAX_POINTS = 30
MIN_POINTS, OFFSET_POINTS = 3, 6
"""Nothing is said of fewer points; the offset is the median of the newest ones, one minute."""
LOW_QUANTILE, MAX_LOWEST = 0.05, 8
MIN_JUMP_NS = NANOSECONDS // 10
MAX_DRIFT = 0.01
"""No clock drifts by 1 %: what does is a replay at another speed, or a backlog on its way."""
FREE_DRIFT = 0.0005
"""Drift that may have gathered while a stream was silent; more at once is a jump."""
LIVE_NS = 86_400 * NANOSECONDS
"""A stream that lags less than a day is live: its receiver's clock is now."""


class _Point(NamedTuple):
    x_ns: int
    y_ns: int


class DelayTrack:
    """A slowly moving delay ``y`` over time ``x``, seen through noise that only adds to it."""

    def __init__(self, snapshot: dict[str, Any] | None = None) -> None:
        said = snapshot or {"span": None, "count": 0, "lowest": [], "points": [], "odd": []}
        self._span: int | None = said["span"]
        self._count: int = said["count"]
        self._lowest: list[tuple[int, int]] = [(y, x) for y, x in said["lowest"]]
        self._points = deque((_Point(x, y) for x, y in said["points"]), maxlen=MAX_POINTS)
        self._odd = [_Point(x, y) for x, y in said["odd"]]
        """The newest points that fit nothing before them: a passing stall, or a jump."""
        self.num_jumps: int = said.get("jumps", 0)

    def add(self, x_ns: int, y_ns: int) -> None:
        """Take one delay."""
        span = x_ns // SPAN_NS
        # (What came a little late counts to the present span.)
        if span != self._span and (self._span is None or not self._span - 1 <= span < self._span):
            self._close()
            self._span, self._count = span, 0
        self._count += 1
        lowest = self._lowest
        if len(lowest) < MAX_LOWEST:
            insort(lowest, (y_ns, x_ns))
        elif y_ns < lowest[-1][0]:
            lowest.pop()
            insort(lowest, (y_ns, x_ns))

    def offset_ns(self) -> int | None:
        """Return the delay now; None while too little was seen."""
        if len(self._points) < MIN_POINTS:
            return None
        return round(statistics.median(y for _, y in list(self._points)[-OFFSET_POINTS:]))

    def drift(self) -> float | None:
        """Return how much the delay grows per time; None while too little was seen."""
        if len(self._points) < MIN_POINTS:
            return None
        first = self._points[0]
        x_P = np.array([point.x_ns - first.x_ns for point in self._points], np.float64)
        y_P = np.array([point.y_ns - first.y_ns for point in self._points], np.float64)
        one_K, other_K = np.triu_indices(len(x_P), 1)
        dx_K = x_P[other_K] - x_P[one_K]
        dy_K = (y_P[other_K] - y_P[one_K])[dx_K != 0]
        return float(np.median(dy_K / dx_K[dx_K != 0])) if len(dy_K) else None

    def steady_offset_ns(self) -> int | None:
        """Return the delay now, None when it runs faster than any clock does."""
        drift = self.drift()
        return None if drift is None or abs(drift) > MAX_DRIFT else self.offset_ns()

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart needs, for JSON."""
        return {
            "span": self._span,
            "count": self._count,
            "lowest": [list(pair) for pair in self._lowest],
            "points": [list(point) for point in self._points],
            "odd": [list(point) for point in self._odd],
            "jumps": self.num_jumps,
        }

    def _close(self) -> None:
        if not self._lowest:
            return
        rank = min(int(LOW_QUANTILE * self._count), len(self._lowest) - 1)
        y_ns, x_ns = self._lowest[rank]
        self._lowest.clear()
        self._take(_Point(x_ns, y_ns))

    def _take(self, point: _Point) -> None:
        """Keep ``point``, unless it fits nothing: two such that agree with each other are a jump.

        Of three that do not agree nothing is known but that the past is over.
        """
        if len(self._points) < MIN_POINTS:
            self._points.append(point)
            return
        recent = list(self._points)[-OFFSET_POINTS:]
        level_ns = statistics.median(y for _, y in recent)
        spread_ns = statistics.median(abs(y - level_ns) for _, y in recent)
        drifted_ns = FREE_DRIFT * abs(point.x_ns - statistics.median(x for x, _ in recent))
        limit_ns = max(MIN_JUMP_NS, 6 * spread_ns) + drifted_ns
        if abs(point.y_ns - level_ns) <= limit_ns:
            self._odd.clear()
            self._points.append(point)
            return
        self._odd.append(point)
        is_jump = len(self._odd) > 1 and abs(point.y_ns - self._odd[-2].y_ns) <= limit_ns
        if is_jump or len(self._odd) == MIN_POINTS:
            self.num_jumps += is_jump
            self._points.clear()
            self._points.extend(self._odd[-2:] if is_jump else self._odd)
            self._odd.clear()


class StreamClock:
    """What is known of the clock of one stream."""

    def __init__(self, snapshot: dict[str, Any] | None = None) -> None:
        said = snapshot or {"received": None, "stored": None, "sound": None, "epoch": ""}
        self._received = DelayTrack(said["received"])
        self._stored = DelayTrack(said["stored"])
        self._sound = DelayTrack(said["sound"])
        self._sound_epoch: str = said["epoch"]

    def note(self, stamps: Stamps, *, t_broker_ns: int) -> None:
        """Take the stamps of one record."""
        if stamps.receive_ns > 0:
            self._received.add(stamps.receive_ns, stamps.receive_ns - stamps.newest_ns)
        self._stored.add(t_broker_ns, t_broker_ns - stamps.newest_ns)

    def note_sound(self, chunk: AudioChunk, *, epoch: str) -> None:
        """Take what a chunk says of the sound card: its count of samples beside its time."""
        if epoch != self._sound_epoch:
            self._sound, self._sound_epoch = DelayTrack(), epoch
        counted_ns = chunk.sample_index * NANOSECONDS // chunk.sample_rate_hz
        self._sound.add(chunk.t_start_ns, chunk.t_start_ns - counted_ns)

    @property
    def num_jumps(self) -> int:
        """How often the offset changed at once and stayed there: a clock was set."""
        return self._best.num_jumps

    def offset_ns(self) -> int | None:
        """Return how far the stream's clock lags its receiver, the fastest way included."""
        return self._best.offset_ns()

    def drift_ppm(self) -> float | None:
        """Return how fast the offset grows; positive when the stream's clock runs slow."""
        return _ppm(self._best.drift())

    def sound_drift_ppm(self) -> float | None:
        """Return how slow the sound card samples against the clock that stamps its chunks.

        None for other streams, and for senders that do not count their samples.
        """
        drift = self._sound.drift()
        return None if drift is None or abs(drift) > MAX_DRIFT else _ppm(drift)

    def lag_ns(self, *, by_receiver: bool) -> int | None:
        """Return the offset against the receiver or the broker, None when it is not steady."""
        return (self._received if by_receiver else self._stored).steady_offset_ns()

    def knows_receiver(self) -> bool:
        """Whether the payloads say when they were received."""
        return self._received.offset_ns() is not None

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart needs, for JSON."""
        return {
            "received": self._received.snapshot(),
            "stored": self._stored.snapshot(),
            "sound": self._sound.snapshot(),
            "epoch": self._sound_epoch,
        }

    @property
    def _best(self) -> DelayTrack:
        return self._received if self.knows_receiver() else self._stored


def skews_ns(clocks: Mapping[str, StreamClock]) -> dict[str, int]:
    """Return how far each stream's clock lags the median of the plant's; unknown ones are left out.

    All are held against one kind of clock: the receivers' where every stream says it, else the
    broker's. So a recording that is replayed years later, all streams alike, has no skew. A plant
    of one stream has nothing beside it but its receiver's clock, as long as that is now.
    """
    speaking = [clock for clock in clocks.values() if clock.offset_ns() is not None]
    by_receiver = all(clock.knows_receiver() for clock in speaking)
    lags = {name: clock.lag_ns(by_receiver=by_receiver) for name, clock in clocks.items()}
    known = {name: lag_ns for name, lag_ns in lags.items() if lag_ns is not None}
    if len(clocks) == 1:
        return {n: lag_ns for n, lag_ns in known.items() if by_receiver and abs(lag_ns) < LIVE_NS}
    if len(known) < 2:
        return {}
    middle_ns = round(statistics.median(known.values()))
    return {name: lag_ns - middle_ns for name, lag_ns in known.items()}


def _ppm(drift: float | None) -> float | None:
    return None if drift is None else drift * 1e6
