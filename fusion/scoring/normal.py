"""What is normal for every member: its centre, which distances are usual, how rare more is.

Shapes: V size of a member's vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.scoring.tails import Tail
from fusion.scoring.whitening import limited, log_distance

MAX_DISTANCE = 3.0
"""Per dimension, in standard deviations: more than this does not count in running averages."""


@dataclass(frozen=True, slots=True)
class Normal:
    """Centres, whiteners and tails of the members, while the same streams are there."""

    centres: Mapping[str, NDArray[np.float64]]
    """Of each member's vector; with ``@mode`` behind the name, in one operating mode."""
    whiteners: Mapping[str, NDArray[np.float64]]
    tails: Mapping[str, Tail]
    """Of each accumulated member's distance; with ``@mode``, in one operating mode."""

    def centred(
        self, member: str, vector: NDArray[np.float64], mode: str | None
    ) -> NDArray[np.float64]:
        """Return a member's vector less what is normal for it in ``mode``."""
        if member not in self.centres:
            return vector
        return vector - self.centres.get(in_mode(member, mode), self.centres[member])

    def rarity(self, key: str, centred: NDArray[np.float64], mode: str | None) -> float | None:
        """Return ``-log10 P`` of a member's vector; None for a member that was never calibrated."""
        if key not in self.whiteners:
            return None
        tail = self.tails.get(in_mode(key, mode), self.tails[key])
        return tail.rarity(float(log_distance(centred, self.whiteners[key])))

    def limit(self, key: str, centred: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``centred``, shortened if it lies very far out."""
        if key not in self.whiteners:
            return centred
        return limited(centred, self.whiteners[key], most=MAX_DISTANCE)


def in_mode(key: str, mode: str | None) -> str:
    """Return the name of ``key`` in one operating mode."""
    return key if mode is None else f"{key}@{mode}"
