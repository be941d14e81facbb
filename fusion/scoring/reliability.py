"""Whether chances that were said came true: the table of the reliability figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Said chance against what happened, in bins of equal width; the table of a figure."""

    said: tuple[float, ...]
    happened: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def error(self) -> float:
        """The expected calibration error: mean distance of both, weighted by count."""
        total = sum(self.count)
        rows = zip(self.said, self.happened, self.count, strict=True)
        return sum(abs(s - h) * n for s, h, n in rows) / total if total else float("nan")


def reliability(
    said: Floats,
    happened: NDArray[np.bool_],
    *,
    weight: Floats | None = None,
    num_bins: int = 10,
) -> Reliability:
    """Return the table of the reliability figure; empty bins are left out.

    ``weight`` says how many each stands for, where some were left out; without it, 1.

    Example:
        >>> told = reliability(np.array([0.05, 0.95, 0.95]), np.array([False, True, False]))
        >>> told.count, [round(h, 2) for h in told.happened], round(told.error, 3)
        ((1, 2), [0.0, 0.5], 0.317)
    """
    bins = np.minimum((said * num_bins).astype(int), num_bins - 1)
    each = np.ones(len(said)) if weight is None else weight
    rows = [
        (
            float(np.average(said[in_bin], weights=each[in_bin])),
            float(np.average(happened[in_bin], weights=each[in_bin])),
            round(float(each[in_bin].sum())),
        )
        for in_bin in (bins == b for b in np.unique(bins))
    ]
    said_B, happened_B, count_B = zip(*rows, strict=True) if rows else ((), (), ())
    return Reliability(tuple(said_B), tuple(happened_B), tuple(count_B))
