"""Every alarm's ticks scored again with each sense left out: is it the sensor or the process?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from flows import wiring
from fusion.alignment import Observation
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.scoring import Calibration
from fusion.scoring.leave_one_out import LeftOut, leave_each_out
from fusion.stream.rescoring import Rescoring
from fusion.training.package import load_normaliser


class SecondLook:
    """Looks again at alarms of one model."""

    def __init__(self, plant: Plant, model_dir: Path) -> None:
        self._plant, self._model_dir = plant, model_dir
        self._manifest = load_manifest(model_dir)
        self._calibration = Calibration.load(model_dir)
        self._normaliser = load_normaliser(model_dir)

    def ticks_up_to(self, tick: int) -> range:
        """Return the ticks that a look at an alarm in ``tick`` needs."""
        return range(tick - Rescoring.ticks_for(self._manifest) + 1, tick + 1)

    def look(self, tick: int, observations: Mapping[int, Observation]) -> tuple[LeftOut, ...]:
        """Return what leaving each one out does to an alarm in ``tick``; () without its ticks."""
        before = [observations[t] for t in self.ticks_up_to(tick) if t in observations]
        if len(before) < self._manifest.window_ticks or before[-1].tick != tick:
            return ()
        with contextlib.closing(wiring.open_inference(self._model_dir)) as inference:
            rescore = Rescoring(inference, self._plant, self._manifest, self._normaliser)
            return tuple(leave_each_out(before, self._plant, self._calibration, rescore))
