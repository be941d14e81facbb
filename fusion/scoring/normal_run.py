"""What is kept of a run without faults, to learn from it what is normal.

Shapes: N windows, V size of a member's vector, R readings, G tags, H horizons, Q quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion.features import Layout
from fusion.model.outputs import WindowOutputs
from fusion.model.predictor import tag_columns
from fusion.plant import Plant
from fusion.scoring.members import deviations, member_name
from fusion.scoring.modes import mode_of


@dataclass(slots=True)
class MemberRun:
    """The vectors of one member, and the windows that they come from."""

    rows: list[int] = field(default_factory=list[int])
    vectors: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])


class NormalRun:
    """Collects windows in order: first those that training saw, then those that it never saw."""

    def __init__(
        self,
        layout: Layout,
        horizons_ticks: tuple[int, ...],
        plant: Plant,
        reading_scale: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> None:
        self._layout, self._horizons, self._plant = layout, horizons_ticks, plant
        self._reading_scale = reading_scale
        self._tags = tag_columns(layout)
        self.num_learned = 0
        self.ticks: list[int] = []
        self.modes: list[str | None] = []
        self.members: dict[str, MemberRun] = {}
        self._residuals: list[NDArray[np.float32]] = []
        self._forecasts: list[NDArray[np.float32]] = []
        self._came: list[NDArray[np.float32]] = []

    def add(self, window: WindowOutputs, *, is_learned: bool) -> None:
        """Keep the deviations of one window, and how far its predictions went wrong."""
        row, last = len(self.ticks), len(window.z_TD) - 1
        self.ticks.append(window.tick)
        self.num_learned += is_learned
        mean_R, std_R = self._reading_scale
        self.modes.append(mode_of(window, self._plant, self._layout, mean_R, std_R))
        for each in deviations(window, self._layout, self._horizons):
            kept = self.members.setdefault(member_name(each.member, each.stream), MemberRun())
            kept.rows.append(row)
            kept.vectors.append(each.vector.astype(np.float32))
        if is_learned:
            return
        self._residuals.append(window.readings_TR[last] - window.readings_due_SR[-1])
        self._forecasts.append(window.forecast_HGQ.copy())
        self._came.append(window.readings_TR[last, self._tags])

    @property
    def num_unseen(self) -> int:
        """The windows that training never saw."""
        return len(self.ticks) - self.num_learned

    def residual_std(self) -> NDArray[np.float64]:
        """Return the robust standard deviation of readings less expected readings, [R]."""
        residuals_NR = np.nan_to_num(np.stack(self._residuals).astype(np.float64))
        centred_NR = residuals_NR - np.median(residuals_NR, axis=0)
        return np.maximum(1.4826 * np.median(np.abs(centred_NR), axis=0), 1e-2)

    def widening(self) -> NDArray[np.float64]:
        """Return how much each 5-95 % band must grow so that it held 90 % of what came, [H, G]."""
        ticks = self.ticks[self.num_learned :]
        at = {tick: index for index, tick in enumerate(ticks)}
        widen_HG = np.zeros((len(self._horizons), len(self._tags)))
        for row, horizon in enumerate(self._horizons):
            misses = [
                np.maximum(said[row, :, 0] - came, came - said[row, :, 2])
                for tick, said in zip(ticks, self._forecasts, strict=True)
                if tick + horizon in at
                for came in [self._came[at[tick + horizon]]]
            ]
            if misses and self._tags:
                known = np.ma.masked_invalid(np.stack(misses)).filled(0.0)
                widen_HG[row] = np.quantile(known, 0.9, axis=0)
        return widen_HG
