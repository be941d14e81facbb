"""Which operating mode of the plant holds in a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.features import Layout
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant


def mode_of(
    window: WindowOutputs,
    plant: Plant,
    layout: Layout,
    reading_mean_R: NDArray[np.float64],
    reading_std_R: NDArray[np.float64],
) -> str | None:
    """Return the first operating mode of the plant that holds, None if none does."""
    for mode in plant.modes:
        value = _tag_value(mode.tag, window, plant, layout, reading_mean_R, reading_std_R)
        if value is not None and mode.between[0] <= value <= mode.between[1]:
            return mode.name
    return None


def _tag_value(  # noqa: PLR0917 what a reading needs to be told in its unit
    name: str,
    window: WindowOutputs,
    plant: Plant,
    layout: Layout,
    reading_mean_R: NDArray[np.float64],
    reading_std_R: NDArray[np.float64],
) -> float | None:
    setpoints = [tag.name for tag in plant.setpoints]
    if name in setpoints:
        low, high = plant.setpoints[setpoints.index(name)].range
        scaled = float(window.setpoints_TU[-1, setpoints.index(name)])
        return low + (scaled + 1) / 2 * (high - low)
    index = [r for stream in layout.streams for r in stream.readings].index(name)
    scaled = float(window.readings_TR[-1, index])
    if np.isnan(scaled):
        return None
    return scaled * float(reading_std_R[index]) + float(reading_mean_R[index])
