"""How rare a value is, learned from normal data: empirical inside, exponential tail beyond.

Peaks over a threshold with an exponential tail (Coles 2001, section 4, shape 0), on the logarithm
of a distance, so that a tail that is heavier than a normal one is not taken for rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAIL = 0.05
MIN_SCALE = 0.1
"""A tail of ticks that resemble one another looks shorter than it is: an excess of a tenth of a
distance must never count as more than a factor e of rarity."""


@dataclass(frozen=True, slots=True)
class Tail:
    """P(value > x) for large x: ``share * exp(-(x - start) / scale)``."""

    start: float
    scale: float
    share: float

    def rarity(self, value: float) -> float:
        """Return ``-log10 P(more than value)``, at least 0; below the tail's start it is 0 to 1.3.

        Example:
            >>> round(Tail(start=1.0, scale=0.5, share=0.1).rarity(1.5), 3)
            1.434
        """
        base = -math.log10(self.share)
        if value < self.start:
            # Inside the bulk the exact value does not matter; it must only grow.
            return max(0.0, base * (1 + (value - self.start) / (1 + abs(self.start))))
        return base + (value - self.start) / self.scale * math.log10(math.e)


def rarities(tail: Tail, values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rarity of each value, [N]."""
    return np.array([tail.rarity(value) for value in values_N.tolist()])


def fit_tail(values_N: NDArray[np.float64], share: float = TAIL) -> Tail:
    """Return the tail of ``values_N``, the mean excess over their ``1 - share`` quantile."""
    start = float(np.quantile(values_N, 1 - share))
    excess = values_N[values_N > start] - start
    scale = float(excess.mean()) if len(excess) else 0.0
    return Tail(start, max(scale, MIN_SCALE), share)


@dataclass(frozen=True, slots=True)
class Budget:
    """A threshold for a stated number of false alarms, and how well the data support it."""

    threshold: float
    num_ticks: int
    num_clusters: int
    is_extrapolated: bool


def threshold_for_budget(
    values_N: NDArray[np.float64],
    *,
    tick_s: float,
    on_delay_ticks: int,
    off_delay_ticks: int,
    per_day: float,
) -> Budget:
    """Return the threshold that ``values_N`` of a normal run pass ``per_day`` times a day.

    What counts is what the alarm engine counts: a value must stay above for the on-delay, and
    passings closer together than the off-delay are one. Beyond the highest of them the rate is
    extrapolated with the exponential tail of their peaks.
    """
    sustained = _running_minimum(values_N, on_delay_ticks)
    days = len(sustained) * tick_s / 86_400
    start = float(np.quantile(sustained, 0.9))
    peaks = np.array(_cluster_peaks(sustained, start, off_delay_ticks))
    if not len(peaks):
        peaks = np.array([float(sustained.max())])
    scale = max(float((peaks - start).mean()), MIN_SCALE)
    wanted = per_day * days
    threshold = start + scale * math.log(max(1.0, len(peaks) / wanted))
    threshold = _raised(sustained, threshold, off_delay_ticks, allowed=int(wanted))
    return Budget(threshold, len(sustained), len(peaks), is_extrapolated=wanted < 1)


def _raised(values_N: NDArray[np.float64], threshold: float, gap: int, *, allowed: int) -> float:
    """Return the threshold, raised until ``values_N`` pass it at most ``allowed`` times.

    Peaks that were one at a lower threshold can be several at a higher one: they are counted anew.
    """
    above = np.sort(values_N[values_N >= threshold])
    steps = np.unique(np.linspace(0, len(above) - 1, 200).astype(int)) if len(above) else []
    for step in steps:
        if len(_cluster_peaks(values_N, threshold, gap)) <= allowed:
            break
        threshold = float(above[step])
    return threshold


def _running_minimum(values_N: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    width = max(1, min(width, len(values_N)))
    return np.lib.stride_tricks.sliding_window_view(values_N, width).min(axis=1)


def _cluster_peaks(values_N: NDArray[np.float64], start: float, gap: int) -> list[float]:
    peaks: list[float] = []
    last = -gap - 1
    for index in np.flatnonzero(values_N > start).tolist():
        if index - last > gap:
            peaks.append(float(values_N[index]))
        else:
            peaks[-1] = max(peaks[-1], float(values_N[index]))
        last = index
    return peaks
