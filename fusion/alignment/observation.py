"""One tick of a plant: everything its streams said between two multiples of ``tick_s``.

Shapes: S telemetry rows in the tick, C tags of the stream (set-points included, in plant order),
N audio samples in the tick, F frames of a clip, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.plant import Plant, TelemetryStream


@dataclass(frozen=True, slots=True)
class Observation:
    """The senses of one tick, by stream name. A stream that is not in ``senses`` was absent.

    telemetry: float32 [S, C], NaN where no usable value is younger than the stream's maximum age;
    audio: int16 [N]; video: uint8 [H, W, 3], the newest frame up to the end of the tick, or, of a
    stream with several frames per tick, uint8 [F, H, W, 3]: the newest up to the end of each part.
    """

    tick: int
    """Covers event times from ``tick * tick_ns`` up to, not including, ``(tick + 1) * tick_ns``."""
    senses: Mapping[str, NDArray[np.generic]]
    usable: Mapping[str, float]
    """Share of the expected values that arrived and were good, per present stream."""

    def is_present(self, stream: str) -> bool:
        """Whether ``stream`` said anything usable in this tick."""
        return stream in self.senses

    def without(self, stream: str) -> Observation:
        """Return the tick as if ``stream`` had sent nothing."""
        return replace(
            self,
            senses={name: sense for name, sense in self.senses.items() if name != stream},
            usable={name: share for name, share in self.usable.items() if name != stream},
        )


def rows_per_tick(stream: TelemetryStream, plant: Plant) -> int:
    """Return S, how many telemetry rows one tick of ``stream`` holds."""
    return max(1, round(stream.rate_hz * plant.tick_s))


def tick_of(t_ns: int, plant: Plant) -> int:
    """Return the tick that the event time ``t_ns`` falls into."""
    return t_ns // plant.tick_ns


def tick_end_ns(tick: int, plant: Plant) -> int:
    """Return the end (exclusive) of ``tick`` in nanoseconds UTC."""
    return (tick + 1) * plant.tick_ns
