"""The live forecasts' bands, corrected by every outcome as it comes.

Calibration widens the networks' 5-95 % band so that it held 90 % of one normal run. Another run is
not that run: on the simulated rig such bands held 66-69 %. Here each outcome moves the widening of
its own tag and horizon (see :mod:`fusion.scoring.bands`), so the share that is held comes back to
90 % whatever the plant does. Only what is said live is changed, tick after tick, in the tag's unit.

Shapes: H horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.plant import Plant
from fusion.schema import TagForecast
from fusion.scoring.bands import COVERAGE, following_rate
from fusion.scoring.forecasts import tag_forecast

Floats = NDArray[np.float64]
Waiting = list[tuple[int, float, float]]
"""Ticks at which something was said that is still to come, with both ends of the band."""


class LiveBands:
    """What is added to both ends of each band now, and the forecasts whose outcome is to come."""

    def __init__(self, plant: Plant) -> None:
        self._tags = {tag.name: tag for tag in plant.measured}
        self._tick_s = plant.tick_s
        self._more: dict[str, Floats] = {}
        self._waiting: dict[str, list[Waiting]] = {}

    def follow(self, tick: int, forecasts: Sequence[TagForecast]) -> tuple[TagForecast, ...]:
        """Return the forecasts made at ``tick`` with the bands of now. Ticks ascend.

        What was said about ``tick`` before is compared with the tag's value; a tag that is not
        there now teaches nothing.
        """
        return tuple(self._follow(tick, forecast) for forecast in forecasts)

    def _follow(self, tick: int, said: TagForecast) -> TagForecast:
        horizons_H = np.rint(np.array(said.horizons_s) / self._tick_s).astype(np.int64)
        more_H = self._more.setdefault(said.tag, np.zeros(len(horizons_H)))
        waiting = self._waiting.setdefault(said.tag, [[] for _ in horizons_H])
        rate_H = following_rate(horizons_H, out=1 - COVERAGE)
        for row, horizon in enumerate(horizons_H.tolist()):
            due = [each for each in waiting[row] if each[0] == tick - horizon]
            waiting[row] = [each for each in waiting[row] if each[0] > tick - horizon]
            waiting[row].append((tick, said.low[row], said.high[row]))
            if said.now is None:
                continue
            for _, low, high in due:
                beyond = max(low - said.now, said.now - high)
                spread = max(high - low + 2 * more_H[row], 0.1 * (high - low))
                more_H[row] += rate_H[row] * spread * ((beyond > more_H[row]) - (1 - COVERAGE))
        if said.now is None:
            return said
        low_H, median_H, high_H = (np.array(path) for path in (said.low, said.median, said.high))
        return tag_forecast(
            self._tags[said.tag],
            said.now,
            said.horizons_s,
            np.minimum(low_H - more_H, median_H),
            median_H,
            np.maximum(high_H + more_H, median_H),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two ticks, for JSON."""
        return {
            "more": {tag: more_H.tolist() for tag, more_H in self._more.items()},
            "waiting": {tag: [list(row) for row in rows] for tag, rows in self._waiting.items()},
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self._more = {tag: np.array(more, np.float64) for tag, more in snapshot["more"].items()}
        self._waiting = {
            tag: [[(int(at), float(low), float(high)) for at, low, high in row] for row in rows]
            for tag, rows in snapshot["waiting"].items()
        }
