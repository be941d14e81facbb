"""What every alarm's condition sees at one tick, for all alarms at once.

Most alarms of most ticks have nothing new to say: which have is decided on arrays, and only those
cost Python.

Shapes: A alarms of the plant, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.alarms.state_machine import Reading
from fusion.alarms.watches import Watch
from fusion.alignment import Observation
from fusion.plant import Plant
from fusion.schema import Condition, Score

_CODES = {condition: code for code, condition in enumerate(Condition)}
_NORMAL, _PENDING_ON, _ACTIVE, _PENDING_OFF = range(4)


class Due(NamedTuple):
    """An alarm whose condition may change now."""

    at: int
    level: float
    reading: Reading


class Readings:
    """Thresholds, the last n ticks, and how long each pending alarm could not be judged."""

    def __init__(self, watches: Sequence[Watch], tick_ns: int) -> None:
        self._names = [watch.name for watch in watches]
        self._tags = [watch.config.tag for watch in watches]
        self._tick_ns = tick_ns
        configs = [watch.config for watch in watches]
        self._side_A = np.array([watch.side for watch in watches], np.float64)
        self._on_A = self._side_A * np.array([each.on for each in configs])
        self._off_A = self._side_A * np.array([each.off for each in configs])
        self._m_A = np.array([each.m_of_n[0] for each in configs], np.uint8)
        spans = [each.m_of_n[1] for each in configs]
        self._last_n_A = np.array([2**n - 1 for n in spans], np.uint64)
        self._recent_A = np.zeros(len(watches), np.uint64)
        self._frozen_ns_A = np.zeros(len(watches), np.int64)
        self._code_A = np.zeros(len(watches), np.int8)
        at = {
            finding: [i for i, each in enumerate(configs) if each.finding == finding]
            for finding in ("surprise", "forecast", "limit", "input")
        }
        self._surprise = np.array(at["surprise"], np.intp)
        self._limit = np.array(at["limit"], np.intp)
        self._limit_tags = [configs[i].tag for i in at["limit"]]
        self._forecast: dict[str | None, list[int]] = {}
        for i in at["forecast"]:
            self._forecast.setdefault(configs[i].tag, []).append(i)
        self._input = {configs[i].streams[0]: i for i in at["input"]}
        self._limits_of = {
            stream: np.array([i for i in at["limit"] if configs[i].streams == (stream,)], np.intp)
            for stream in self._input
        }
        self._is_judged_A = np.zeros(len(watches), np.bool_)
        self._is_judged_A[[i for listed in at.values() for i in listed]] = True

    def became(self, at: int, condition: Condition) -> None:
        """Note the condition of one alarm."""
        if self._code_A[at] != _CODES[condition]:
            self._code_A[at], self._frozen_ns_A[at] = _CODES[condition], 0

    def frozen_ns(self, at: int) -> int:
        """Return for how long the present condition of an alarm could not be judged."""
        return int(self._frozen_ns_A[at])

    def see(self, score: Score, since_ns: int | None) -> Iterator[Due]:
        """Yield the alarms that may change; ``since_ns`` is the end of the tick before.

        What came without data is left as it is: for an alarm that waits for a delay, time stands.
        """
        level_A = self._levels(score)
        is_known_A = np.isfinite(level_A)
        self._freeze(is_known_A, 0 if since_ns is None else score.t_end_ns - since_ns)
        with np.errstate(invalid="ignore"):
            beyond_A = self._side_A * level_A
            is_beyond_A = is_known_A & (beyond_A >= self._on_A)
            is_calm_A = is_known_A & (beyond_A < self._off_A)
        moved_A = ((self._recent_A << np.uint64(1)) | is_beyond_A) & self._last_n_A
        self._recent_A = np.where(is_known_A, moved_A, self._recent_A)
        is_on_A = is_known_A & (np.bitwise_count(self._recent_A) >= self._m_A)
        is_off_A = is_calm_A & ~is_on_A
        code_A = self._code_A
        is_due_A = (code_A == _NORMAL) & is_on_A | (code_A == _ACTIVE) & is_off_A
        is_due_A |= is_known_A & ((code_A == _PENDING_ON) | (code_A == _PENDING_OFF))
        for at in np.flatnonzero(is_due_A).tolist():
            reading = Reading(bool(is_on_A[at]), bool(is_off_A[at]), score.t_end_ns)
            yield Due(at, float(level_A[at]), reading)

    def missing(self, score: Score, stream: str) -> list[str]:
        """Return the tags of ``stream`` that a limit alarm needs and ``score`` has no value of."""
        needed = {self._tags[at] for at in self._limits_of[stream].tolist()}
        return sorted(str(tag) for tag in needed - score.values.keys())

    def snapshot(self) -> dict[str, Any]:
        """Return what is not in the states of the alarms, for JSON."""
        recent_A = np.where(self._last_n_A > 1, self._recent_A, 0)
        return {
            "recent": {self._names[i]: int(recent_A[i]) for i in np.flatnonzero(recent_A)},
            "frozen_ns": {
                self._names[i]: int(self._frozen_ns_A[i]) for i in np.flatnonzero(self._frozen_ns_A)
            },
        }

    def restore(self, snapshot: Mapping[str, Any], conditions: Sequence[Condition]) -> None:
        """Go on from ``snapshot``, with every alarm in its condition."""
        self._code_A[:] = [_CODES[condition] for condition in conditions]
        for at, name in enumerate(self._names):
            recent = int(snapshot.get("recent", {}).get(name, 0))
            self._recent_A[at] = recent & int(self._last_n_A[at])
            self._frozen_ns_A[at] = int(snapshot.get("frozen_ns", {}).get(name, 0))

    def _levels(self, score: Score) -> NDArray[np.float64]:
        """Return what each alarm looks at; NaN where that is not known."""
        level_A = np.full(len(self._names), np.nan)
        if any(score.present.values()):
            level_A[self._surprise] = score.surprise
            for forecast in score.forecasts:
                level_A[self._forecast.get(forecast.tag, [])] = forecast.p_cross
            found = list(map(score.values.get, self._limit_tags))  # pyright: ignore
            level_A[self._limit] = np.array(found, np.float64)
        for stream, at in self._input.items():
            is_whole = bool(np.isfinite(level_A[self._limits_of[stream]]).all())
            level_A[at] = 0.0 if score.present.get(stream, False) and is_whole else 1.0
        return level_A

    def _freeze(self, is_known_A: NDArray[np.bool_], passed_ns: int) -> None:
        is_waiting_A = (self._code_A == _PENDING_ON) | (self._code_A == _PENDING_OFF)
        is_waiting_A &= self._is_judged_A
        self._frozen_ns_A[is_waiting_A & ~is_known_A] += passed_ns
        # Ticks that nobody saw.
        self._frozen_ns_A[is_waiting_A & is_known_A] += max(0, passed_ns - self._tick_ns)


def tag_values(observation: Observation, plant: Plant) -> dict[str, float]:
    """Return the mean over the tick of every tag that a limit alarm watches, in the tag's unit.

    A tag without a usable value is absent. (Not what the networks read: that is clipped.)
    """
    wanted = {alarm.tag for alarm in plant.alarms if alarm.finding == "limit"}
    values: dict[str, float] = {}
    for stream in plant.telemetry_streams:
        if not observation.is_present(stream.name):
            continue
        values_SC = observation.senses[stream.name].astype(np.float64)
        for column, tag in enumerate(stream.tags):
            if tag.name in wanted:
                known = values_SC[:, column][np.isfinite(values_SC[:, column])]
                if known.size:
                    values[tag.name] = float(known.mean())
    return values
