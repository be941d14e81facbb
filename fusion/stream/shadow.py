"""A second version that scores the same ticks and says nothing: it is only counted.

Whatever it does, the version in service goes on: a failure costs the shadow its window, and is
known to its meter. Its alarms are those that it would have raised, on states of its own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fusion.alarms import AlarmEngine
from fusion.alarms.readings import tag_values
from fusion.alignment import Observation
from fusion.errors import InferenceUnavailableError
from fusion.plant import Plant
from fusion.rollout.metering import Meter
from fusion.scoring import Scorer
from fusion.stream.windows import WindowEncoder

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Shadow:
    """A version beside the one in service, on one plant."""

    plant: Plant
    model_version: str
    windows: WindowEncoder
    scorer: Scorer
    alarms: AlarmEngine
    meter: Meter
    _told: str = ""

    def follow(self, observation: Observation, *, is_new: bool) -> None:
        """Score ``observation``; one that is not new only rebuilds the window."""
        try:
            self._follow(observation, is_new=is_new)
        except InferenceUnavailableError:
            return  # (the meter has counted it; a window with a hole begins anew)
        except Exception as broken:
            self.meter.called(0.0, has_failed=True)
            if repr(broken) != self._told:
                self._told = repr(broken)
                log.exception("%s, in shadow, fails; it is counted", self.model_version)

    def _follow(self, observation: Observation, *, is_new: bool) -> None:
        window = self.windows.push(observation)
        if window is not None and is_new:
            # Limits on plain tags too: its alarms are counted beside those of the other version.
            values = tag_values(observation, self.plant)
            score = self.scorer.judge(self.scorer.observe(window, values))
            self.meter.scored(score, self.alarms.update(score), is_heard=False)
