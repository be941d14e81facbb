"""How rare a value is, learned from normal data: empirical inside, a tail beyond.

Peaks over a threshold with an exponential tail (Coles 2001, section 4, shape 0), on the logarithm
of a distance, so that a tail that is heavier than a normal one is not taken for rare. Few peaks say
little about their scale, so what counts is what they predict of the next one. With a gamma prior on
the rate that is worth ``PRIOR_PEAKS`` peaks of the mean ``PRIOR_SCALE``, and ``k`` peaks with the
prior's, ``P(excess > x) = (1 + x / (k scale)) ** -k`` (Gelman et al. 2013, section 2.6), which is
exponential once there are many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAIL = 0.05
PRIOR_SCALE = 0.1
"""The logarithm of a distance in 50 dimensions has this standard deviation where all is normal."""
PRIOR_PEAKS = 5.0
"""With 5, normal rows right after the calibrated ones kept the budget; with 10 and 20 they passed
it 10 and 20 times as often (docs/experiments.md)."""


@dataclass(frozen=True, slots=True)
class Tail:
    """P(value > x) beyond ``start``: ``share`` of all values, then a tail of this ``scale``."""

    start: float
    scale: float
    share: float
    num_peaks: float
    """How many independent peaks the scale was learned from, with the prior's."""

    def rarity(self, value: float) -> float:
        """Return ``-log10 P(more than value)``, at least 0; below the tail's start it is 0 to 1.3.

        Example:
            >>> round(Tail(start=1.0, scale=0.5, share=0.1, num_peaks=1e6).rarity(1.5), 3)
            1.434
            >>> round(Tail(start=1.0, scale=0.5, share=0.1, num_peaks=1).rarity(1.5), 3)
            1.301
        """
        base = -math.log10(self.share)
        if value < self.start:
            # Inside the bulk the exact value does not matter; it must only grow.
            return max(0.0, base * (1 + (value - self.start) / (1 + abs(self.start))))
        excess = (value - self.start) / (self.num_peaks * self.scale)
        return base + self.num_peaks * math.log1p(excess) * math.log10(math.e)


def rarities(tail: Tail, values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rarity of each value, [N]."""
    return np.array([tail.rarity(value) for value in values_N.tolist()])


def fit_tail(
    values_N: NDArray[np.float64], share: float = TAIL, *, num_independent: float | None = None
) -> Tail:
    """Return the tail of ``values_N``, the mean excess over their ``1 - share`` quantile.

    ``num_independent`` says how many of the values are independent; all, where it is not given.
    """
    start = float(np.quantile(values_N, 1 - share))
    excess = values_N[values_N > start] - start
    num_independent = len(values_N) if num_independent is None else num_independent
    scale, num_peaks = _learned(excess, share * num_independent, PRIOR_SCALE)
    return Tail(start, scale, share, num_peaks)


def _learned(
    excess_K: NDArray[np.float64], num_independent: float, prior_scale: float
) -> tuple[float, float]:
    """Return scale and number of peaks, the prior's with them."""
    num_seen = num_independent if len(excess_K) else 0.0
    mean = float(excess_K.mean()) if len(excess_K) else 0.0
    num_peaks = PRIOR_PEAKS + num_seen
    scale = (PRIOR_PEAKS * prior_scale + num_seen * mean) / num_peaks
    # Ticks that resemble one another must not make a tail look shorter than it can be.
    return max(scale, prior_scale), num_peaks


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
    reach: float = math.inf,
) -> Budget:
    """Return the threshold that ``values_N`` of a normal run pass ``per_day`` times a day.

    What counts is what the alarm engine counts: a value must stay above for the on-delay, and
    passings closer together than the off-delay are one. Beyond the highest of them the rate is
    extrapolated with what their peaks predict of the next one, but not beyond ``reach``: what can
    hardly be told from more must pass. A value of the run itself never does so for that.
    """
    sustained = _running_minimum(values_N, on_delay_ticks)
    days = len(sustained) * tick_s / 86_400
    start = float(np.quantile(sustained, 0.9))
    peaks = np.array(_cluster_peaks(sustained, start, off_delay_ticks))
    if not len(peaks):
        peaks = np.array([float(sustained.max())])
    # Rarities that are right have this scale: ten times as rare is one more.
    scale, num_peaks = _learned(peaks - start, len(peaks), math.log10(math.e))
    wanted = per_day * days
    rarer = max(1.0, len(peaks) / wanted)
    threshold = start + scale * num_peaks * (rarer ** (1 / num_peaks) - 1)
    threshold = min(threshold, max(reach, float(sustained.max())))
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
