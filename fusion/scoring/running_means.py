"""What a small head sees of a stream: running means of what frozen embeddings expect.

A single tick is noisy and a window of 24 is short beside wear; running means at several time
constants hold the whole past in a vector of fixed size, as the scores' accumulated members do.
Training and the live process follow them with this code.

Shapes: X values of a tick, S spans, D embedding, H horizons.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.model.outputs import WindowOutputs

Floats = NDArray[np.floating]
SPANS_TICKS = (4, 16, 64)


def ahead_of(window: WindowOutputs) -> Floats:
    """Return what the plant is heading for, [D]: the expected embeddings' mean over horizons."""
    return window.z_ahead_HD.mean(axis=0)


class RunningMeans:
    """Exponentially weighted means of all ticks up to the newest one, at each span.

    Weights sum to 1 from the first tick on, so a short past is averaged, not drawn towards 0.

    Example:
        >>> means = RunningMeans((3,))
        >>> [means.step(np.array([value])).round(2).tolist() for value in (1.0, 3.0)]
        [[1.0], [2.33]]
    """

    def __init__(self, spans_ticks: Sequence[int] = SPANS_TICKS) -> None:
        self._new_S1 = 2 / (np.array(spans_ticks, np.float64)[:, None] + 1)
        self._begin_anew()

    def follow(self, tick: int, values_X: Floats) -> Floats | None:
        """Return the means with ``values_X`` in them, [S X]; None where these are no numbers.

        They begin anew after a jump of ``tick``: nothing is known of what lies between.
        """
        if self._tick is None or tick != self._tick + 1:
            self._begin_anew()
        if not np.isfinite(values_X).all():
            self._begin_anew()
            return None
        self._tick = tick
        return self.step(values_X)

    def step(self, values_X: Floats) -> Floats:
        """Return the means with the next tick's values in them, [S X], whatever its number."""
        new_S1 = self._new_S1
        self._total_SX = (1 - new_S1) * self._total_SX + new_S1 * values_X.astype(np.float64)
        self._weight_S1 = (1 - new_S1) * self._weight_S1 + new_S1
        return (self._total_SX / self._weight_S1).ravel()

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two ticks, for JSON, bit for bit."""
        packed = np.concatenate([self._weight_S1.ravel(), self._total_SX.ravel()])
        coded = base64.b64encode(packed.astype("<f8").tobytes()).decode()
        return {"tick": self._tick, "float64": coded}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from ``snapshot``."""
        numbers = np.frombuffer(base64.b64decode(snapshot["float64"]), "<f8").astype(np.float64)
        num_spans = len(self._new_S1)
        self._tick = snapshot["tick"]
        self._weight_S1 = numbers[:num_spans, None]
        self._total_SX = numbers[num_spans:].reshape(num_spans, -1)

    def _begin_anew(self) -> None:
        self._tick: int | None = None
        self._weight_S1 = np.zeros_like(self._new_S1)
        self._total_SX = np.zeros_like(self._new_S1)
