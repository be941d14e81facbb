"""What an operator wants: tags to keep, to lower, to raise; and what a plan then costs.

Everything is counted in standard deviations of normal running and averaged over the time ahead, so
that terms of different tags can be added. A tag is not known exactly: what is counted is the
expectation over its forecast.

Shapes: N plans, H horizons.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fusion.errors import InputError
from fusion.plant import Plant

Floats = NDArray[np.float64]
KEEP_WEIGHT = 10.0
"""A tag a third of a standard deviation outside what is to be kept costs as much as a whole one
of what is to be lowered: who says *keep* means it."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_KEEP = re.compile(
    rf"(?P<tag>.+?)\s+(?:in\s+(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})"
    rf"|(?P<word>near|below|above)\s+(?P<value>{_NUMBER}))"
)
_WEIGHT = re.compile(rf"(?P<rest>.+?)\s+x\s*(?P<weight>{_NUMBER})")


Kind = Literal["minimise", "maximise", "keep"]


@dataclass(frozen=True, slots=True)
class Term:
    """One wish about one tag."""

    kind: Kind
    tag: str
    low: float | None = None
    high: float | None = None
    weight: float = 1.0

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f" x{self.weight:g}"
        return f"{self.kind} {self.tag}{self._band()}{weight}"

    def _band(self) -> str:
        if self.low is not None and self.high is not None:
            return (
                f" near {self.low:g}"
                if self.low == self.high
                else f" in {self.low:g}..{self.high:g}"
            )
        if self.high is not None:
            return f" below {self.high:g}"
        return "" if self.low is None else f" above {self.low:g}"

    def cost(self, mean: Floats, spread: Floats, *, centre: float, std: float) -> Floats:
        """Return the expected cost of a tag that is ``mean`` ± ``spread`` (all in its unit).

        ``centre`` and ``std`` are those of normal running. What is to be kept costs the square of
        its distance from the band, in expectation over a normal distribution.
        """
        if self.kind != "keep":
            sign = 1.0 if self.kind == "minimise" else -1.0
            return self.weight * sign * (mean - centre) / std
        cost = np.zeros_like(mean)
        if self.high is not None:
            cost = cost + _squared_excess((mean - self.high) / std, spread / std)
        if self.low is not None:
            cost = cost + _squared_excess((self.low - mean) / std, spread / std)
        return KEEP_WEIGHT * self.weight * cost


@dataclass(frozen=True, slots=True)
class Goal:
    """Everything that an operator wants; limits of tags are always to be kept as well."""

    terms: tuple[Term, ...]


def parse_goal(
    plant: Plant,
    *,
    minimise: Sequence[str] = (),
    maximise: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Goal:
    """Return the goal that is written as ``TAG`` to minimise or maximise, and bands to keep.

    A band is ``TAG in LOW..HIGH``, ``TAG near VALUE``, ``TAG below VALUE`` or ``TAG above VALUE``.
    Each may end in ``x2``, a weight.

    Raises:
        InputError: A wish cannot be read, names no measured tag, or nothing is wished for.
    """
    directions: list[tuple[Kind, Sequence[str]]] = [("minimise", minimise), ("maximise", maximise)]
    terms = [
        Term(kind, _measured(tag, plant), weight=weight)
        for kind, texts in directions
        for tag, weight in map(_weighted, texts)
    ]
    terms += [_kept(text, plant) for text in keep]
    if not terms:
        raise InputError(
            "a goal must say what is wanted, got nothing; give for example "
            f"--minimise {plant.measured[0].name}, or --keep '{plant.measured[0].name} near VALUE'"
        )
    return Goal(tuple(terms))


def horizon_weights(horizons_s: Sequence[float]) -> Floats:
    """Return the share of the time ahead that each horizon stands for (trapezoid rule).

    Example:
        >>> horizon_weights((1.0, 4.0)).tolist()
        [0.625, 0.375]
    """
    times = np.array(horizons_s, np.float64)
    borders = np.concatenate([[0.0], (times[1:] + times[:-1]) / 2, times[-1:]])
    return np.diff(borders) / times[-1]


def _squared_excess(distance: Floats, spread: Floats) -> Floats:
    """Return ``E[max(0, x)^2]`` of a normal x with mean ``distance``.

    Example:
        >>> _squared_excess(np.array([2.0, 0.0]), np.array([0.0, 1.0])).round(2).tolist()
        [4.0, 0.5]
    """
    spread = np.maximum(spread, 1e-9)
    z = np.clip(distance / spread, -30.0, 30.0)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    excess = (distance**2 + spread**2) * ndtr(z) + distance * spread * density
    return np.where(distance > 30 * spread, distance**2, np.maximum(excess, 0.0))


def _weighted(text: str) -> tuple[str, float]:
    found = _WEIGHT.fullmatch(text.strip())
    if found is None:
        return text.strip(), 1.0
    weight = float(found["weight"])
    if not weight > 0:
        raise InputError(f"the weight of a wish must be above 0, got {text!r}; change {weight:g}")
    return found["rest"], weight


def _kept(text: str, plant: Plant) -> Term:
    body, weight = _weighted(text)
    found = _KEEP.fullmatch(body)
    if found is None:
        raise InputError(
            "what is to be kept must read 'TAG in LOW..HIGH', 'TAG near VALUE', 'TAG below VALUE' "
            f"or 'TAG above VALUE', got {text!r}; write for example "
            f"--keep '{plant.measured[0].name} in 0.5..0.7'"
        )
    tag = _measured(found["tag"], plant)
    if found["word"] is None:
        low, high = float(found["low"]), float(found["high"])
        if low > high:
            raise InputError(
                f"a band must satisfy LOW <= HIGH, got {text!r}; swap {low:g} and {high:g}"
            )
        return Term("keep", tag, low, high, weight)
    value = float(found["value"])
    low = None if found["word"] == "below" else value
    high = None if found["word"] == "above" else value
    return Term("keep", tag, low, high, weight)


def _measured(name: str, plant: Plant) -> str:
    known = [tag.name for tag in plant.measured]
    if name in known:
        return name
    if name in [tag.name for tag in plant.setpoints]:
        raise InputError(
            f"a goal must be about measured tags, and {name!r} is a set-point: it is what a plan "
            f"moves (--set {name}=VALUE); choose from {known}"
        )
    raise InputError(f"a goal must be about tags of this plant, got {name!r}; choose from {known}")
