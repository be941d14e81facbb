"""Gauges of training as small multiples, each with what a healthy value means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flows.report.wording import figure

HEALTHY: Final = (
    ("sigreg", "about 1 when the embedding fills its space; near 8 for rank 8; far above: collapse"),
    ("rankme", "high and not falling: the number of dimensions that carry information"),
    ("std", "near 1, never near 0: 0 is a dead dimension"),
    ("variance", "windows differ more from one another than inside"),
    ("within", "windows differ more from one another than inside"),
    ("skill", "above 0: better than saying that nothing changes; 1 is perfect"),
    ("persistence", "above 0: better than saying that nothing changes; 1 is perfect"),
    ("setpoint", "above 1: with set-points shuffled the prediction gets worse, so they are used"),
    ("shuffled", "above 1: with set-points shuffled the prediction gets worse, so they are used"),
    ("probe", "towards 1: the sensors can be read from the embedding by a straight line"),
    ("r2", "towards 1: the sensors can be read from the embedding by a straight line"),
    ("without", "above 0: the rest still predicts with this sense removed"),
    ("cross", "falling below its start: one sense can be told from the others"),
    ("coverage", "near the nominal 0.90: the bands hold as often as they say"),
    ("pinball", "falling and then level"),
    ("inverse", "falling: what the operator changed can be read from the embedding"),
    ("loss", "falling and then level; never the only reason to keep a model"),
)
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
    finite_N = np.isfinite(value_N)
    first, last = figure(float(value_N[0])), figure(float(value_N[-1]))
    return Trend(
        name=name.replace("_", " "),
        healthy=next((text for key, text in HEALTHY if key in name.lower()), ""),
        first=first,
        last=last,
        points=_polyline(step_N[finite_N], value_N[finite_N]),
        alt=f"{name} from {first} to {last}",
    )


def _polyline(x_N: np.ndarray, y_N: np.ndarray) -> str:
    if x_N.size == 0:
        return ""
    keep = np.unique(np.linspace(0, x_N.size - 1, min(x_N.size, _MOST_POINTS)).round().astype(int))
    x_N, y_N = x_N[keep], y_N[keep]
    x_span = max(float(np.ptp(x_N)), 1e-12)
    y_span = max(float(np.ptp(y_N)), 1e-12)
    across_N = 3 + (x_N - x_N.min()) / x_span * (_WIDTH - 8)
    down_N = _HEIGHT - 4 - (y_N - y_N.min()) / y_span * (_HEIGHT - 8)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across_N, down_N, strict=True))
