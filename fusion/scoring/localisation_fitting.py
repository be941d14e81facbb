"""Learns from normal running how rare what is in every cell of a picture, and of a sound.

Mean and colour covariance of every cell, at every patch size, come from the ticks that training
saw; the tails come from ticks that it never saw.

Shapes: N ticks, S patch sizes, C channels of a cell, H x W cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.features import Layout, TickFeatures
from fusion.plant import Modality
from fusion.scoring.localisation import (
    ORDINARY,
    CellScale,
    Floats,
    Localisation,
    as_cells,
    smoothed,
)
from fusion.scoring.tails import TAIL
from fusion.scoring.whitening import SHRINK

PATCHES: dict[Modality, tuple[tuple[int, int], ...]] = {
    "video": ((1, 1), (3, 3), (5, 5)),
    "audio": ((1, 1), (1, 5), (3, 5)),
}
"""Odd, so that a patch has a middle; no larger, or a map would show more than what changed."""
MIN_TICKS = 40
"""The 95th percentile of fewer is the largest but one."""
MAX_TICKS = 2_000
"""So many unseen ticks settle a tail, and fit in memory."""
FLOOR = 1e-2
"""Added to the variance of a cell, whose unit is the input's: what never moved may move a little"""
LEAST_SCALE = 0.1
"""An excess of a tenth of a distance never counts as more than a factor e of rarity."""
POOLED_TICKS = 10
"""A cell's own tail has few ticks; that of all cells weighs as much as so many."""


def fit_localisation(
    learned: Iterable[TickFeatures], unseen: Iterable[TickFeatures], layout: Layout
) -> Localisation:
    """Return the scales: what is normal from ``learned`` ticks, how rare is what, from ``unseen``.

    Both are read once, in batches. A stream with too few unseen ticks to know a 95th percentile
    gets no scale, and no map.
    """
    drawn = [stream for stream in layout.streams if stream.modality in PATCHES]
    moments = {
        stream.name: _Moments(PATCHES[stream.modality], is_any_time=stream.modality == "audio")
        for stream in drawn
    }
    for batch in learned:
        for name, inputs_NCHW in _present(batch, layout):
            moments[name].add(inputs_NCHW)
    fresh = {stream.name: _Evenly() for stream in drawn}
    for batch in unseen:
        for name, inputs_NCHW in _present(batch, layout):
            fresh[name].add(inputs_NCHW)
    return Localisation(
        {
            name: _with_tail(*moments[name].normal(), np.stack(ticks.kept))
            for name, ticks in fresh.items()
            if len(ticks.kept) >= MIN_TICKS and moments[name].count
        }
    )


class _Evenly:
    """Keeps at most ``MAX_TICKS`` ticks of a run, spread evenly over it."""

    def __init__(self) -> None:
        self.kept: list[Floats] = []
        self._count, self._every = 0, 1

    def add(self, inputs_NCHW: Floats) -> None:
        """Keep some of the ticks of a batch."""
        for inputs_CHW in inputs_NCHW:
            if self._count % self._every == 0:
                self.kept.append(inputs_CHW)
            self._count += 1
            if len(self.kept) > MAX_TICKS:
                self.kept = self.kept[::2]
                self._every *= 2


class _Moments:
    """Mean and covariance of the channels of every cell, at every patch size."""

    def __init__(self, patches: tuple[tuple[int, int], ...], *, is_any_time: bool) -> None:
        self._patches, self._is_any_time = patches, is_any_time
        self.count = 0
        self._sums: list[NDArray[np.float64]] = []
        self._squares: list[NDArray[np.float64]] = []

    def add(self, inputs_NCHW: Floats) -> None:
        """Count the ticks of a batch in."""
        self.count += len(inputs_NCHW)
        for index, patch in enumerate(self._patches):
            patches_NCHW = smoothed(inputs_NCHW, patch)
            sums_CHW = patches_NCHW.sum(axis=0, dtype=np.float64)
            squares = np.einsum("nchw,ndhw->hwcd", patches_NCHW, patches_NCHW).astype(np.float64)
            if index == len(self._sums):
                self._sums.append(np.zeros_like(sums_CHW))
                self._squares.append(np.zeros_like(squares))
            self._sums[index] += sums_CHW
            self._squares[index] += squares

    def normal(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Return the patches [S, 2], the means [S, C, H, W] and the whiteners [S, H, W, C, C]."""
        mean_SCHW = np.stack(self._sums) / self.count
        squares_SHWCC = np.stack(self._squares) / self.count
        if self._is_any_time:
            mean_SCHW = mean_SCHW.mean(axis=3, keepdims=True)
            squares_SHWCC = squares_SHWCC.mean(axis=2, keepdims=True)
        centre = np.moveaxis(mean_SCHW, 1, -1)
        covariance = squares_SHWCC - centre[..., :, None] * centre[..., None, :]
        own = np.eye(covariance.shape[-1])
        whole = (1 - SHRINK) * covariance + (SHRINK * covariance + FLOOR) * own
        values, axes = np.linalg.eigh(whole)
        whitener = np.swapaxes(axes / np.sqrt(np.maximum(values, FLOOR))[..., None, :], -1, -2)
        patches_S2 = np.array(self._patches, np.int64)
        return patches_S2, mean_SCHW.astype(np.float32), whitener.astype(np.float32)


def _with_tail(
    patches_S2: NDArray[np.int64],
    mean_SCHW: Floats,
    whitener_SHWCC: Floats,
    inputs_NCHW: Floats,
) -> CellScale:
    """Return the scale whose tails are those of ``inputs``, ticks that training never saw."""
    shape_SHW = (len(patches_S2), *mean_SCHW.shape[2:])
    flat_HW = np.zeros(shape_SHW[1:], np.float32)
    bare = CellScale(
        patches_S2, mean_SCHW, whitener_SHWCC, np.zeros(shape_SHW, np.float32), flat_HW,
        flat_HW + 1, np.array([ORDINARY]),
    )  # fmt: skip
    logs_SNHW = bare.log_distances(inputs_NCHW)
    ordinary_SHW = _quantile(logs_SNHW, shape_SHW[2])
    excess_NHW = np.max(logs_SNHW - ordinary_SHW[:, None], axis=0)
    start_HW = _quantile(excess_NHW[None], shape_SHW[2])[0]
    beyond_NHW = np.maximum(excess_NHW - start_HW, 0.0)
    num_HW, sum_HW = (beyond_NHW > 0).sum(axis=0), beyond_NHW.sum(axis=0, dtype=np.float64)
    if shape_SHW[2] == 1:
        num_HW, sum_HW = num_HW.sum(axis=1, keepdims=True), sum_HW.sum(axis=1, keepdims=True)
    pooled = float(sum_HW.sum() / max(int(num_HW.sum()), 1))
    scale_HW = np.maximum((sum_HW + POOLED_TICKS * pooled) / (num_HW + POOLED_TICKS), LEAST_SCALE)
    fitted = CellScale(
        patches_S2, mean_SCHW, whitener_SHWCC, ordinary_SHW, start_HW,
        scale_HW.astype(np.float32), np.array([ORDINARY]),
    )  # fmt: skip
    rarest_N = fitted.rarity(inputs_NCHW).max(axis=(1, 2))
    return replace(fitted, shown_from=np.array([max(ORDINARY, np.quantile(rarest_N, 1 - TAIL))]))


def _quantile(values_SNHW: Floats, width: int) -> Floats:
    """Return the 95th percentile over ticks of every cell, or of every band where W is 1."""
    over = (1, 3) if width == 1 else (1,)
    quantile = np.asarray(np.quantile(values_SNHW, 1 - TAIL, axis=over, keepdims=True))
    return quantile[:, 0].astype(np.float32)


def _present(batch: TickFeatures, layout: Layout) -> Iterator[tuple[str, Floats]]:
    """Yield the cells of every stream that can be drawn, of the ticks in which it was there."""
    for index, stream in enumerate(layout.streams):
        is_there_N = batch.presence_NM[:, index] > 0
        if stream.modality in PATCHES and is_there_N.any():
            yield stream.name, as_cells(batch.inputs[stream.name])[is_there_N]
