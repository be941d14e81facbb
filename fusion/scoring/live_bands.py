"""The live forecasts' bands, corrected by every outcome as it comes.

Calibration widens the networks' 5-95 % band so that it held 90 % of one normal run. Another run is
not that run: on the simulated rig such bands held 66-69 %. Here each outcome moves the widening of
its own horizon and tag (see :mod:`fusion.scoring.bands`), so the share that is held comes back to
90 % whatever the plant does. Standardised values.

Shapes: H horizons, G measured tags, Q quantiles (low, middle, high).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.scoring.bands import COVERAGE, following_rate

Floats = NDArray[np.floating]


class LiveBands:
    """What is added to both ends of each band now, and the forecasts whose outcome is to come."""

    def __init__(self, widen_HG: Floats, horizons_ticks: tuple[int, ...]) -> None:
        self._widen_HG = widen_HG.astype(np.float64)
        self._horizons = horizons_ticks
        self._rate_H = following_rate(np.array(horizons_ticks), out=1 - COVERAGE)
        self._made: dict[int, Floats] = {}

    @property
    def widen(self) -> Floats:
        """What is added to both ends of the bands of a forecast that is made now, [H, G]."""
        return self._widen_HG.copy()

    def push(self, tick: int, said_HGQ: Floats, came_G: Floats) -> None:
        """Learn from what came at ``tick``, and keep what is said there about later ticks.

        Ticks ascend. A tag that did not come (NaN) and a forecast never made teach nothing.
        """
        for row, horizon in enumerate(self._horizons):
            said = self._made.get(tick - horizon)
            if said is None:
                continue
            low_G, high_G = said[row, :, 0], said[row, :, -1]
            beyond_G = np.maximum(low_G - came_G, came_G - high_G)
            is_missed_G = beyond_G > self._widen_HG[row]
            spread_G = np.maximum(high_G - low_G + 2 * self._widen_HG[row], 1e-3)
            change_G = self._rate_H[row] * spread_G * (is_missed_G - (1 - COVERAGE))
            self._widen_HG[row] += np.where(np.isfinite(came_G), change_G, 0.0)
        self._made[tick] = said_HGQ.astype(np.float64)
        oldest = tick - self._horizons[-1]
        self._made = {at: said for at, said in self._made.items() if at > oldest}

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two ticks, for JSON."""
        return {
            "widen": self._widen_HG.tolist(),
            "made": [[tick, said.tolist()] for tick, said in self._made.items()],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self._widen_HG = np.array(snapshot["widen"], np.float64)
        self._made = {int(tick): np.array(said, np.float64) for tick, said in snapshot["made"]}
