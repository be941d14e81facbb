"""Two-sample tests for data whose neighbours in time are alike.

Ticks are no independent draws: a motor warms for minutes, and a test that takes them for such finds
a difference between any two hours. What is exchanged here are blocks of many correlation times
(block permutation; Lahiri 2003, section 2.5, on why blocks; Pesarin & Salmaso 2010 on permuting
units that are exchangeable when their parts are not). The statistic is the energy distance of
Székely & Rizzo (2013), which is 0 for equal distributions only, in however many dimensions.

Shapes: N ticks, V values, K blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats
from scipy.spatial.distance import cdist

Values = NDArray[np.floating]
BLOCK_TIMES, GAP_TIMES = 5, 1
"""Integrated correlation times in a block, and at its beginning left out: then neighbouring blocks
hardly know of each other. Without a gap, 7 of 100 tests of alike AR(1) samples said otherwise at
the level 0.05; with it 5 did."""
WINDOW_TIMES = 5.0
"""Sokal (1997, section 3): sum the correlations up to five times what they come to."""
SLOW = 0.9
"""Of the values' correlation times, this quantile: the slowest of many is mostly chance."""
NUM_PERMUTATIONS = 9_999
MAX_TICKS = 3_000
"""Their distances take 72 MB; of more, every second, third ... one stands for its neighbours."""
MIN_FILLED = 0.5
"""A block of which less is there is left out."""
LEAST_VARIANCE = 1e-3
"""Of the largest: a direction in which nothing moves must not count like one in which all does."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a test says of two samples."""

    statistic: float
    p_value: float
    """How often blocks that are dealt anew differ as much."""
    num_blocks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which block each tick of two samples lies in; blocks of the first have the low numbers."""

    first_N: NDArray[np.int64]
    """-1 where the tick is in no block that counts."""
    second_N: NDArray[np.int64]
    num_first: int
    num_second: int

    @property
    def least(self) -> int:
        """The blocks of the sample that has fewer."""
        return min(self.num_first, self.num_second)

    def means(self, first_N: Values, second_N: Values) -> Values:
        """Return the mean of one value over each block, [K]."""
        at_N = np.concatenate([self.first_N, self.second_N])
        value_N = np.concatenate([first_N, second_N]).astype(np.float64)
        is_in_N = at_N >= 0
        num_blocks = self.num_first + self.num_second
        sums_K = np.bincount(at_N[is_in_N], value_N[is_in_N], num_blocks)
        return sums_K / np.bincount(at_N[is_in_N], minlength=num_blocks)


def blocks_of(first_N: NDArray[np.int64], second_N: NDArray[np.int64], length: int) -> Blocks:
    """Return blocks of ``length`` ticks; ticks that are missing leave theirs emptier, not longer.

    Example:
        >>> blocks = blocks_of(np.arange(10), np.array([20, 21, 22, 23, 24, 29]), 5)
        >>> blocks.first_N.tolist(), blocks.second_N.tolist()
        ([-1, 0, 0, 0, 0, -1, 1, 1, 1, 1], [-1, 2, 2, 2, 2, -1])
    """
    gap = length * GAP_TIMES // BLOCK_TIMES
    numbered, counts = [], []
    begin = 0
    for ticks_N in (first_N, second_N):
        at_N = (ticks_N - ticks_N[0]) // length if len(ticks_N) else np.zeros(0, np.int64)
        filled = np.bincount(at_N) >= MIN_FILLED * length if len(at_N) else np.zeros(0, bool)
        number = np.where(filled, np.cumsum(filled) - 1 + begin, -1)
        is_gap_N = (ticks_N - ticks_N[:1]) % length < gap
        numbered.append(np.where(is_gap_N, -1, number[at_N]))
        counts.append(int(filled.sum()))
        begin += counts[-1]
    return Blocks(numbered[0], numbered[1], counts[0], counts[1])


def correlation_ticks(parts: Sequence[Values]) -> float:
    """Return the integrated correlation time, in ticks, of the slower values; 1 for noise.

    ``1 + 2 sum rho(t)``, summed over a window that grows with the sum (Sokal 1997, equation 3.16).
    Each of ``parts`` [N, V] is centred on its own mean: a step between them is what a test looks
    for, and no slowness.

    Example:
        >>> noise_NV = np.random.default_rng(0).normal(size=(4_000, 2))
        >>> bool(correlation_ticks([noise_NV]) < 1.2)
        True
    """
    parts = [part for part in parts if len(part) > 1]
    if not parts:
        return 1.0
    most = min(len(part) for part in parts) // 2
    lagged_LV = sum(_autocovariances(part, most) for part in parts)
    assert not isinstance(lagged_LV, int)
    rho_LV = lagged_LV / np.maximum(lagged_LV[0], 1e-12)
    times_LV = 2 * np.cumsum(rho_LV, axis=0) - 1
    lags_L = np.arange(len(times_LV))
    slowness = [
        float(times_L[np.argmax(is_enough_L) if is_enough_L.any() else -1])
        for times_L in times_LV.T
        for is_enough_L in [lags_L >= WINDOW_TIMES * times_L]
    ]
    return max(1.0, float(np.quantile(slowness, SLOW)))


def block_length(parts: Sequence[Values]) -> int:
    """Return how many ticks a block must have, so that blocks may be exchanged."""
    return math.ceil(BLOCK_TIMES * correlation_ticks(parts))


def whitened(first_NV: Values, second_NV: Values) -> tuple[Values, Values]:
    """Return both samples in units of how far both together spread, along their principal axes.

    Of both together: with the first one's own spread the second would look wider, drift or not.
    """
    both_NV = np.concatenate([first_NV, second_NV]).astype(np.float64)
    centre_V = both_NV.mean(axis=0)
    values_V, axes_VV = np.linalg.eigh(np.atleast_2d(np.cov(both_NV, rowvar=False)))
    scale_V = np.sqrt(np.maximum(values_V, LEAST_VARIANCE * max(float(values_V.max()), 1e-12)))
    return (first_NV - centre_V) @ axes_VV / scale_V, (second_NV - centre_V) @ axes_VV / scale_V


def energy_test(first_NV: Values, second_NV: Values, blocks: Blocks) -> Compared:
    """Return how far two distributions lie apart: 0 for equal ones, 1 for two single points.

    The statistic is Székely & Rizzo's coefficient ``H = E / 2 E|X - Y|`` (2013, section 4), of the
    ticks of different blocks: within one they are alike because they are neighbours.
    """
    at_N = np.concatenate([blocks.first_N, blocks.second_N])
    values_NV = np.concatenate([first_NV, second_NV])[at_N >= 0]
    at_N = at_N[at_N >= 0]
    every = -(-len(at_N) // MAX_TICKS)
    values_NV, at_N = values_NV[::every], at_N[::every]
    num_blocks = blocks.num_first + blocks.num_second
    member_NK = (at_N[:, None] == np.arange(num_blocks)).astype(np.float64)
    member_NK /= np.maximum(member_NK.sum(axis=0), 1)
    distance_KK = member_NK.T @ cdist(values_NV, values_NV) @ member_NK
    np.fill_diagonal(distance_KK, 0.0)

    def coefficient(is_first_BK: Values) -> Values:
        is_second_BK = 1 - is_first_BK
        num_first = is_first_BK[0].sum()
        num_second = num_blocks - num_first
        to_first_BK = is_first_BK @ distance_KK
        between_B = (to_first_BK * is_second_BK).sum(axis=-1) / (num_first * num_second)
        in_first_B = (to_first_BK * is_first_BK).sum(axis=-1) / (num_first * (num_first - 1))
        to_second_BK = is_second_BK @ distance_KK
        in_second_B = (to_second_BK * is_second_BK).sum(axis=-1) / (num_second * (num_second - 1))
        return (2 * between_B - in_first_B - in_second_B) / np.maximum(2 * between_B, 1e-12)

    return _permuted(coefficient, blocks)


def ratio_test(above_K: Values, below_K: Values, blocks: Blocks) -> Compared:
    """Return by how much a ratio of sums is larger in the second sample, tested one-sided.

    ``above_K`` and ``below_K`` are of the blocks, the first sample's first.
    """

    def growth(is_first_BK: Values) -> Values:
        first_B = is_first_BK @ above_K / (is_first_BK @ below_K)
        is_second_BK = 1 - is_first_BK
        return is_second_BK @ above_K / (is_second_BK @ below_K) - first_B

    return _permuted(growth, blocks)


def _permuted(statistic: Callable[[Values], Values], blocks: Blocks) -> Compared:
    """Return ``statistic`` of the blocks as they are, among all ways in which they can be dealt."""
    num_blocks = blocks.num_first + blocks.num_second

    def of_numbers(first: Values, _second: Values, axis: int = -1) -> Values:
        numbers_BF = np.atleast_2d(np.moveaxis(np.asarray(first), axis, -1)).astype(np.int64)
        is_first_BK = np.zeros((len(numbers_BF), num_blocks))
        np.put_along_axis(is_first_BK, numbers_BF, 1.0, axis=-1)
        return statistic(is_first_BK).reshape(np.shape(first)[:-1])

    numbers_K = np.arange(num_blocks)
    found = stats.permutation_test(
        (numbers_K[: blocks.num_first], numbers_K[blocks.num_first :]),
        of_numbers,
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        batch=1_000,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return Compared(
        float(found.statistic), float(found.pvalue), (blocks.num_first, blocks.num_second)
    )


def _autocovariances(part_NV: Values, most: int) -> Values:
    """Return the sums of products of values ``0 .. most`` ticks apart, [L, V]."""
    centred_NV = part_NV.astype(np.float64) - part_NV.mean(axis=0)
    lagged = [
        signal.correlate(column, column, method="fft")[len(column) - 1 : len(column) + most]
        for column in centred_NV.T
    ]
    return np.stack(lagged, axis=1)
