"""Training windows: which ticks make a window, and batches of them as tensors.

Shapes: N ticks, B windows, T context ticks, E far targets, H horizons.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.errors import RecipeError
from fusion.features import TickFeatures, held
from fusion.model import Batch, ModelConfig


class Windows:
    """The windows of some ticks. A window never reaches over a jump of time."""

    def __init__(self, features: TickFeatures, config: ModelConfig) -> None:
        self._config = config
        self._inputs = {name: torch.from_numpy(x) for name, x in features.inputs.items()}
        self._presence = torch.from_numpy(features.presence_NM)
        self._setpoints = torch.from_numpy(held(features.setpoints_NU))
        self._readings = torch.from_numpy(features.readings_NR)
        ticks_N = np.array(features.ticks, np.int64)
        # The last tick of the contiguous stretch that each tick lies in.
        jumps = np.flatnonzero(np.diff(ticks_N) != 1)
        ends = np.append(jumps, len(ticks_N) - 1)
        self._stretch_end_N = ends[np.searchsorted(ends, np.arange(len(ticks_N)))]
        lasts = np.arange(len(ticks_N)) + config.window_ticks - 1
        self.starts: NDArray[np.int64] = np.flatnonzero(lasts <= self._stretch_end_N)
        if not len(self.starts):
            raise RecipeError(
                f"training needs stretches of at least {config.window_ticks} ticks without a gap, "
                f"got {len(ticks_N)} ticks in {len(ends)} stretches; ingest more, or take a recipe "
                "with a shorter window"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, which: NDArray[np.int64]) -> Batch:
        """Return the windows number ``which`` as tensors."""
        config, starts_B = self._config, self.starts[which]
        context_BT = starts_B[:, None] + np.arange(config.window_ticks)
        ahead_BTH = context_BT[:, :, None] + np.array(config.horizons_ticks)
        far = [h for h in config.horizons_ticks if h not in config.scored_horizons]
        far_BE = context_BT[:, -1:] + np.array(far, np.int64)
        end_B = self._stretch_end_N[starts_B]
        has_far_BE = far_BE <= end_B[:, None]
        ticks_BL = np.concatenate([context_BT, np.minimum(far_BE, end_B[:, None])], axis=1)
        ahead_BTH = np.minimum(ahead_BTH, end_B[:, None, None])
        return Batch(
            inputs={name: values[ticks_BL] for name, values in self._inputs.items()},
            presence_BLM=self._presence[ticks_BL],
            setpoints_BTU=self._setpoints[context_BT],
            plan_BTHU=self._setpoints[ahead_BTH],
            readings_BLR=self._readings[ticks_BL],
            has_far_BE=torch.from_numpy(has_far_BE.astype(np.float32)),
        )

    def evenly(self, count: int) -> NDArray[np.int64]:
        """Return ``count`` window numbers spread over all of them (fewer if there are fewer)."""
        return np.unique(np.linspace(0, len(self) - 1, count).astype(np.int64))
