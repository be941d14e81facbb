"""Gauges of training as small multiples, each with what a healthy value means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fusion.wording import figure

HEALTHY: Final[tuple[tuple[str, float | None, str], ...]] = (
    (
        "sigreg",
        1.0,
        "about 1 when the embedding fills its space, near 8 for rank 8, more: collapse",
    ),
    ("rankme", None, "high and not falling: the number of dimensions that carry information"),
    ("std", 1.0, "near 1, never near 0: 0 is a dead dimension"),
    ("within", 1.0, "below 1: windows differ more from one another than inside"),
    ("without", 0.0, "above 0: the rest still predicts with this sense removed"),
    ("skill", 0.0, "above 0: better than saying that nothing changes; 1 is perfect"),
    ("persistence", 0.0, "above 0: better than saying that nothing changes; 1 is perfect"),
    ("setpoint", 1.0, "above 1: set-points are used, for with shuffled ones it predicts worse"),
    ("shuffled", 1.0, "above 1: set-points are used, for with shuffled ones it predicts worse"),
    ("probe", 1.0, "towards 1: the sensors can be read from the embedding by a straight line"),
    ("r2", 1.0, "towards 1: the sensors can be read from the embedding by a straight line"),
    ("cross", None, "falling below its start: one sense can be told from the others"),
    ("coverage", 0.9, "near the nominal 0.90: the bands hold as often as they say"),
    ("pinball", None, "falling and then level"),
    ("inverse", None, "falling: what the operator changed can be read from the embedding"),
    ("loss", None, "falling and then level; never the only reason to keep a model"),
)
"""Part of a gauge's name, the value that splits healthy from not (drawn dashed), and why."""
_WIDTH, _HEIGHT = 200.0, 46.0
_MOST_POINTS = 160


@dataclass(frozen=True, slots=True)
class Trend:
    """One gauge over the steps of training; ``points`` is the line in a 200 x 46 box."""

    name: str
    healthy: str
    first: str
    last: str
    points: str
    reference_at: float | None
    alt: str


def trends(history: Sequence[Mapping[str, float]]) -> tuple[Trend, ...]:
    """Return every gauge of ``history`` in the order in which the gauges appear.

    Example:
        >>> [t.last for t in trends([{"step": 0, "sigreg": 3.0}, {"step": 50, "sigreg": 1.05}])]
        ['1.05']
    """
    names = dict.fromkeys(name for row in history for name in row if name != "step")
    return tuple(_trend(name, history) for name in names)


def _trend(name: str, history: Sequence[Mapping[str, float]]) -> Trend:
    rows = [(row.get("step", float(i)), row[name]) for i, row in enumerate(history) if name in row]
    step_N, value_N = np.array(rows, dtype=np.float64).T
    is_finite_N = np.isfinite(value_N)
    first, last = figure(float(value_N[0])), figure(float(value_N[-1]))
    known = (entry for entry in HEALTHY if entry[0] in name.lower())
    _, reference, healthy = next(known, ("", None, ""))
    points, reference_at = _line(step_N[is_finite_N], value_N[is_finite_N], reference)
    return Trend(
        name=name.translate(str.maketrans("_./", "   ")),
        healthy=healthy,
        first=first,
        last=last,
        points=points,
        reference_at=reference_at,
        alt=f"{name} from {first} to {last}",
    )


def _line(
    x_N: NDArray[np.float64], y_N: NDArray[np.float64], reference: float | None
) -> tuple[str, float | None]:
    """Return the points of the line, and how far down the reference lies (None: off the chart)."""
    if x_N.size == 0:
        return "", None
    keep = np.unique(np.linspace(0, x_N.size - 1, min(x_N.size, _MOST_POINTS)).round().astype(int))
    x_N, y_N = x_N[keep], y_N[keep]
    low, high = float(y_N.min()), float(y_N.max())
    if reference is not None and low - (high - low) / 2 <= reference <= high + (high - low) / 2:
        low, high = min(low, reference), max(high, reference)
    else:
        reference = None
    x_span = max(float(np.ptp(x_N)), 1e-12)
    across_N = 3 + (x_N - x_N.min()) / x_span * (_WIDTH - 8)

    def down(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return _HEIGHT - 4 - (y - low) / max(high - low, 1e-12) * (_HEIGHT - 8)

    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across_N, down(y_N), strict=True))
    return points, None if reference is None else float(down(np.array([reference]))[0])
