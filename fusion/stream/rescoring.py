"""Scores recorded ticks again, outside of the live chain and without changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.alignment import Observation
from fusion.features import Normaliser
from fusion.manifest import Manifest
from fusion.plant import Plant
from fusion.ports import Inference
from fusion.scoring import Calibration, Scorer
from fusion.stream.windows import WindowEncoder

JUDGED_TICKS = 6
"""A single tick says little: what counts is the median of so many."""
SETTLING_TICKS = 60
"""After so many the slowest running average has forgotten all but a twentieth of its start."""
WINDOWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Rescoring:
    """Implements :class:`fusion.scoring.leave_one_out.Rescore` with a model."""

    inference: Inference
    plant: Plant
    manifest: Manifest
    normaliser: Normaliser

    @staticmethod
    def ticks_for(manifest: Manifest) -> int:
        """Return how many ticks up to an alarm say all that can be said."""
        return manifest.window_ticks - 1 + SETTLING_TICKS + JUDGED_TICKS

    def __call__(self, observations: Sequence[Observation], calibration: Calibration) -> float:
        """Return the median surprise of the last ticks; NaN where there is no full window."""
        windows = WindowEncoder(self.inference, self.plant, self.manifest, self.normaliser)
        scorer = Scorer(calibration, self.plant, self.manifest.version)
        surprises = [
            scorer.update(window).surprise
            for window in windows.run_many(observations, windows_at_once=WINDOWS_AT_ONCE)
        ]
        return float(np.median(surprises[-JUDGED_TICKS:])) if surprises else float("nan")
