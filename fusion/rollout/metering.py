"""What a version does while it serves: calls, failures and latencies; ticks, alarms, verdicts."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InferenceUnavailableError, ModelLoadingError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, Inference
from fusion.rollout.judging import Seen
from fusion.schema import AlarmEvent, Judgement, Score, Verdict

CALLS_KEPT = 512
RECENT_S = 30.0
"""Older calls say nothing about now: a version that recovered must not be accused, nor one whose
good days hide what it does."""
RECENT_TICKS = 15
"""Calls are kept for so many ticks at least: two networks are asked in each, and a rule on calls
says nothing before twenty."""
ALARMS_KEPT = 10_000
CALL_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the counts of calls by duration; one count more is of all that took longer."""


class Calls(NamedTuple):
    """Every call since the meter was made."""

    by_duration: tuple[int, ...]
    """How many lasted at most each of ``CALL_BOUNDS_S``, and not the one before; then the rest."""
    sum_s: float
    num_failed: int


class Meter:
    """Counts what one version does on plants with ticks of ``tick_s``. For several threads."""

    def __init__(self, clock: Clock, *, tick_s: float = 0.0) -> None:
        self._clock = clock
        self._recent_ns = round(max(RECENT_S, RECENT_TICKS * tick_s) * NANOSECONDS)
        self._lock = threading.Lock()
        self._calls: deque[tuple[int, float, bool]] = deque(maxlen=CALLS_KEPT)
        self._by_duration = [0] * (len(CALL_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._num_failed = 0
        self._num_ticks = 0
        self._num_alarm_ticks = 0
        self._num_alarms = 0
        self._sum_surprise = 0.0
        self._raised: OrderedDict[str, None] = OrderedDict()
        self._verdicts: dict[str, Judgement | None] = {}
        self.parity_broken: str | None = None

    def called(self, duration_s: float, *, has_failed: bool) -> None:
        """Note one call of a network."""
        with self._lock:
            self._calls.append((self._clock.monotonic_ns(), duration_s, has_failed))
            self._by_duration[bisect_left(CALL_BOUNDS_S, duration_s)] += 1
            self._sum_s += duration_s
            self._num_failed += has_failed

    def scored(self, score: Score, events: list[AlarmEvent], *, is_heard: bool = True) -> None:
        """Note one tick, and what its score did to alarms.

        Alarms that are not ``is_heard`` by people are only counted: nobody can judge them.
        """
        with self._lock:
            self._num_ticks += 1
            self._num_alarm_ticks += score.surprise >= 1
            self._sum_surprise += score.surprise
            for event in events:
                if event.transition == "raised":
                    self._num_alarms += 1
                    if is_heard:
                        self._raised[event.id] = None
            while len(self._raised) > ALARMS_KEPT:
                gone, _ = self._raised.popitem(last=False)
                self._verdicts.pop(gone, None)

    def judged(self, verdict: Verdict) -> None:
        """Note what an operator said of an alarm; of another version's, nothing."""
        with self._lock:
            if verdict.episode in self._raised:
                self._verdicts[verdict.episode] = verdict.judgement

    def calls(self) -> Calls:
        """Return what became of every call, and how long they took."""
        with self._lock:
            return Calls(tuple(self._by_duration), self._sum_s, self._num_failed)

    def forget_calls(self) -> None:
        """Forget the calls: they tell of the server, not of the version."""
        with self._lock:
            self._calls.clear()

    def begin_anew(self) -> None:
        """Forget what was counted, as another role begins; whose its alarms were is not forgotten.

        People judge an alarm long after it was raised: by then its version may serve elsewhere.
        """
        with self._lock:
            self._calls.clear()
            self._num_ticks, self._num_alarm_ticks, self._num_alarms = 0, 0, 0
            self._sum_surprise = 0.0
            self.parity_broken = None

    def seen(self) -> Seen:
        """Return all of it; of the calls those of late only."""
        with self._lock:
            since_ns = self._clock.monotonic_ns() - self._recent_ns
            recent = [call for call in self._calls if call[0] >= since_ns]
            # (A call that failed says by its duration only when it was given up.)
            durations = [duration_s for _, duration_s, has_failed in recent if not has_failed]
            said = list(self._verdicts.values())
            return Seen(
                num_calls=len(recent),
                num_failed=sum(has_failed for *_, has_failed in recent),
                p95_s=float(np.quantile(durations, 0.95)) if durations else 0.0,
                num_ticks=self._num_ticks,
                mean_surprise=self._sum_surprise / max(self._num_ticks, 1),
                num_alarm_ticks=self._num_alarm_ticks,
                num_alarms=self._num_alarms,
                num_nuisance=said.count("nuisance"),
                num_useful=said.count("useful"),
                parity_broken=self.parity_broken,
            )


class MeteredInference:
    """An :class:`fusion.ports.Inference` whose calls a meter counts."""

    def __init__(self, inner: Inference, meter: Meter, clock: Clock) -> None:
        self._inner = inner
        self._meter = meter
        self._clock = clock

    def infer(
        self, network: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of ``network``. What is not finite counts as a failure."""
        began_ns = self._clock.monotonic_ns()
        try:
            outputs = self._inner.infer(network, inputs)
        except ModelLoadingError:
            raise  # (the version was asked nothing: a server that has begun anew accuses nobody)
        except InferenceUnavailableError:
            self._note(began_ns, has_failed=True)
            raise
        is_whole = all(np.isfinite(array).all() for array in outputs.values())
        self._note(began_ns, has_failed=not is_whole)
        return outputs

    def close(self) -> None:
        """Free what is inside."""
        self._inner.close()

    def _note(self, began_ns: int, *, has_failed: bool) -> None:
        duration_s = (self._clock.monotonic_ns() - began_ns) / NANOSECONDS
        self._meter.called(duration_s, has_failed=has_failed)
