"""A calibrated model over a recording: what the score and its members say of every tick.

Shapes: N ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.evaluation.calibrated import WINDOWS_AT_ONCE, Calibrated
from fusion.evaluation.protocol import OURS
from fusion.scoring import Calibration, Scorer
from fusion.scoring.calibration import WHOLE, is_in_panel
from fusion.scoring.members import kind_of
from fusion.stream.windows import WindowEncoder


@dataclass(frozen=True, slots=True)
class Scored:
    """What was said of some ticks. A tick whose window was not full has no score: NaN."""

    ticks_N: NDArray[np.int64]
    surprise_N: NDArray[np.float64]
    """1 is the threshold of the plant's budget."""
    members: Mapping[str, NDArray[np.float64]]
    """Each member alone, on the same scale; NaN where it is missing."""

    def of_panel(self, calibration: Calibration, panel: str) -> NDArray[np.float64]:
        """Return the surprise that the members of one panel would give, with its thresholds."""
        whole, own = calibration.panels[WHOLE], calibration.panels[panel]
        chosen = [
            np.maximum(0, whole.rarity(kind, values) + own.bonus[kind]) / own.threshold
            for key, values in self.members.items()
            for kind in [kind_of(key)]
            if is_in_panel(key, panel)
        ]
        return np.fmax.reduce([np.full(len(self.ticks_N), np.nan), *chosen])


def ablation(scored: Scored, calibration: Calibration) -> dict[str, NDArray[np.float64]]:
    """Return the surprise of the whole, of each kind of member alone, and of all without it."""
    names = {WHOLE: OURS}
    for panel in calibration.panels:
        if panel.startswith("-"):
            names[panel[1:]], names[panel] = f"{panel[1:]} only", f"{OURS} without {panel[1:]}"
    return {name: scored.of_panel(calibration, panel) for panel, name in names.items()}


def score_recording(calibrated: Calibrated, observations: Iterable[Observation]) -> Scored:
    """Return what the live chain would say of each tick of ``observations``."""
    observations = list(observations)
    encoder = WindowEncoder(
        calibrated.inference, calibrated.plant, calibrated.manifest, calibrated.normaliser
    )
    scorer = Scorer(calibrated.calibration, calibrated.plant, calibrated.manifest.version)
    ticks_N = np.array([each.tick for each in observations], np.int64)
    row_of = {tick: row for row, tick in enumerate(ticks_N.tolist())}
    surprise_N = np.full(len(ticks_N), np.nan)
    members: dict[str, NDArray[np.float64]] = {}
    for window in encoder.run_many(observations, windows_at_once=WINDOWS_AT_ONCE):
        score, row = scorer.update(window), row_of[window.tick]
        surprise_N[row] = score.surprise
        for name, value in score.members.items():
            members.setdefault(name, np.full(len(ticks_N), np.nan))[row] = value
    return Scored(ticks_N, surprise_N, members)
