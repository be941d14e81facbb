"""What-if: the operator's scenarios first, then a search for a better plan. Advice, no more.

The search is the cross-entropy method (Rubinstein 1999; de Boer et al. 2005, algorithm 2.2): draw
set-point moves from a normal distribution, keep the cheapest, fit the distribution to them, again.
Changing nothing is always among what is compared.

Shapes: N plans, K moves, U set-points, H horizons, G measured tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from fusion.planning.goal import Goal, horizon_weights
from fusion.planning.outlook import Outlook, PlanReader
from fusion.planning.space import Floats
from fusion.schema import TagForecast
from fusion.scoring.forecasts import NORMAL_95, chances_beyond, forecast_tags
from fusion.scoring.tails import TAIL

LIMITS, UNFAMILIAR, MOVES = "limits", "unfamiliar", "moves"
LIMIT_WEIGHT = 20.0
"""A tag that surely passes a limit costs as much as twenty standard deviations of a wish."""
ALLOWED_CHANCE = 0.05
"""Of passing a limit: the end of the band. A chance below it costs nothing."""
MOVE_WEIGHT = 0.02
"""For moving a set-point across its whole box: what does not help is left alone."""
ORDINARY = -float(np.log10(TAIL))
"""Rarity of the most unusual 5 % of normal running; beyond it the guard counts, squared."""
RARE = 3.0
"""Rarity of one tick in a thousand of normal running."""
SMALLEST_SPREAD = 0.01
"""Of the search's distribution, in boxes: below this it has converged."""


class Confidence(StrEnum):
    """How far the model knows the states that a plan leads to."""

    HIGH = "high"
    """Inside what 95 % of normal running looked like."""
    MEDIUM = "medium"
    LOW = "low"
    """Rarer than one tick in a thousand: the prediction is a guess."""
    UNKNOWN = "unknown"
    """The model's calibration has no density of the state."""


@dataclass(frozen=True, slots=True)
class Search:
    """How long to search. Equal seeds give equal plans."""

    seed: int = 0
    rounds: int = 8
    population: int = 64
    elites: int = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One plan and what is expected of it."""

    name: str
    kind: Literal["no change", "scenario", "found"]
    targets_KU: Floats
    setpoints_HU: Floats
    low_HG: Floats
    median_HG: Floats
    high_HG: Floats
    limits: tuple[TagForecast, ...]
    """Of the tags that have limits: with chance and time of passing them."""
    rarity: float
    confidence: Confidence
    costs: Mapping[str, float]

    @property
    def cost(self) -> float:
        """The sum of all costs; less is better."""
        return sum(self.costs.values())


def what_if(
    reader: PlanReader,
    goal: Goal,
    *,
    scenarios: Mapping[str, Mapping[str, float]] | None = None,
    search: Search | None = None,
) -> list[Candidate]:
    """Return the plans that were compared, cheapest first; ``no change`` is always one of them.

    ``scenarios`` are set-points to move at once, by name. With ``search`` the best plan that the
    search found comes too, when it is better than all of those.

    Raises:
        InputError: A scenario moves what is no set-point, or out of its limits.
        InferenceUnavailableError: The networks did not answer.
    """
    named = {"no change": reader.space.hold()}
    named |= {name: reader.space.scenario(values) for name, values in (scenarios or {}).items()}
    outlook = reader.read(np.stack(list(named.values())))
    candidates = [
        _candidate(reader, goal, outlook, row, name=name, kind="scenario" if row else "no change")
        for row, name in enumerate(named)
    ]
    if search is not None:
        found = _search(reader, goal, search, start=outlook)
        if _total(costs_of(goal, found, reader))[0] < min(each.cost for each in candidates):
            candidates.append(_candidate(reader, goal, found, 0, name="found", kind="found"))
    return sorted(candidates, key=lambda each: each.cost)


def costs_of(goal: Goal, outlook: Outlook, reader: PlanReader) -> dict[str, Floats]:
    """Return what each plan costs by wish, [N] each; then limits, unfamiliar states, moves."""
    plant, calibration = reader.plant, reader.calibration
    weights_H = horizon_weights([h * calibration.tick_s for h in calibration.horizons_ticks])
    spread_NHG = (outlook.high_NHG - outlook.low_NHG) / (2 * NORMAL_95)
    columns = {tag.name: index for index, tag in enumerate(plant.measured)}
    costs: dict[str, Floats] = {}
    for term in goal.terms:
        tag = columns[term.tag]
        centre, std = tag_scale(reader, tag)
        mean_NH, spread_NH = outlook.median_NHG[..., tag], spread_NHG[..., tag]
        costs[str(term)] = term.cost(mean_NH, spread_NH, centre=centre, std=std) @ weights_H
    costs[LIMITS] = _limit_cost(outlook, reader)
    excess_NH = np.maximum(np.nan_to_num(outlook.rarity_NH) - ORDINARY, 0.0)
    costs[UNFAMILIAR] = excess_NH**2 @ weights_H
    space = reader.space
    box_U = np.maximum(space.high_U - space.low_U, 1e-9)
    moved_NKU = np.abs(space.deltas(outlook.targets_NKU)) / box_U
    costs[MOVES] = MOVE_WEIGHT * moved_NKU.sum(axis=(1, 2))
    return costs


def tag_scale(reader: PlanReader, tag: int) -> tuple[float, float]:
    """Return mean and standard deviation of a measured tag in normal running, in its unit."""
    calibration = reader.calibration
    names = [name for stream in calibration.layout.streams for name in stream.readings]
    column = names.index(reader.plant.measured[tag].name)
    return float(calibration.reading_mean_R[column]), float(calibration.reading_std_R[column])


def _limit_cost(outlook: Outlook, reader: PlanReader) -> Floats:
    """Return the cost of the chance, at the worst horizon, of passing each limit."""
    cost_N = np.zeros(len(outlook))
    for index, tag in enumerate(reader.plant.measured):
        fan = outlook.low_NHG[..., index], outlook.median_NHG[..., index]
        if tag.limits is None:
            continue
        for side, limit in (("low", tag.limits.low), ("high", tag.limits.high)):
            if limit is not None:
                chance_NH = chances_beyond(limit, side, *fan, outlook.high_NHG[..., index])
                cost_N += LIMIT_WEIGHT * np.maximum(chance_NH.max(axis=1) - ALLOWED_CHANCE, 0.0)
    return cost_N


def _search(reader: PlanReader, goal: Goal, search: Search, *, start: Outlook) -> Outlook:
    """Return the outlook of the cheapest plan of all that were drawn, or of ``start``."""
    space, draw = reader.space, np.random.default_rng(search.seed)
    box_U = space.high_U - space.low_U
    best, least = _cheapest(goal, start, reader)
    mean_KU = np.zeros_like(space.hold())
    spread_KU = np.broadcast_to(box_U / 2, mean_KU.shape)
    for _ in range(search.rounds):
        noise_NKU = draw.normal(size=(search.population, *mean_KU.shape))
        targets_NKU = space.targets(mean_KU + spread_KU * noise_NKU)
        outlook = reader.read(np.concatenate([targets_NKU, best.targets_NKU]))
        total_N = _total(costs_of(goal, outlook, reader))
        elites = np.argsort(total_N, kind="stable")[: search.elites]
        if total_N[elites[0]] < least:
            best, least = _only(outlook, elites[0]), float(total_N[elites[0]])
        # What was drawn outside the box was moved in: the distribution is fitted to what is there.
        moved_NKU = space.deltas(outlook.targets_NKU[elites])
        mean_KU = moved_NKU.mean(axis=0)
        spread_KU = np.maximum(moved_NKU.std(axis=0), SMALLEST_SPREAD * box_U)
    return _without_idle_moves(reader, goal, best)


def _without_idle_moves(reader: PlanReader, goal: Goal, best: Outlook) -> Outlook:
    """Return ``best``, with a set-point left alone if moving it did not help."""
    hold_KU, targets_KU = reader.space.hold(), best.targets_NKU[0]
    is_column_UU = np.eye(len(reader.space.names), dtype=bool)
    held_UKU = np.where(is_column_UU[:, None], hold_KU, targets_KU)
    return _cheapest(goal, reader.read(np.concatenate([best.targets_NKU, held_UKU])), reader)[0]


def _cheapest(goal: Goal, outlook: Outlook, reader: PlanReader) -> tuple[Outlook, float]:
    total_N = _total(costs_of(goal, outlook, reader))
    row = int(np.argmin(total_N))
    return _only(outlook, row), float(total_N[row])


def _total(costs: Mapping[str, Floats]) -> Floats:
    return np.sum(list(costs.values()), axis=0)


def _only(outlook: Outlook, row: int) -> Outlook:
    """Return the outlook of one plan of several."""
    one = slice(row, row + 1)
    return Outlook(
        targets_NKU=outlook.targets_NKU[one],
        setpoints_NHU=outlook.setpoints_NHU[one],
        low_NHG=outlook.low_NHG[one],
        median_NHG=outlook.median_NHG[one],
        high_NHG=outlook.high_NHG[one],
        forecast_NHGQ=outlook.forecast_NHGQ[one],
        rarity_NH=outlook.rarity_NH[one],
    )


def _candidate(
    reader: PlanReader,
    goal: Goal,
    outlook: Outlook,
    row: int,
    *,
    name: str,
    kind: Literal["no change", "scenario", "found"],
) -> Candidate:
    one = _only(outlook, row)
    seen = replace(reader.window, forecast_HGQ=one.forecast_NHGQ[0])
    rarity = float(one.rarity_NH.max())
    return Candidate(
        name=name,
        kind=kind,
        targets_KU=one.targets_NKU[0],
        setpoints_HU=one.setpoints_NHU[0],
        low_HG=one.low_NHG[0],
        median_HG=one.median_NHG[0],
        high_HG=one.high_NHG[0],
        limits=forecast_tags(seen, reader.plant, reader.calibration),
        rarity=rarity,
        confidence=_confidence(rarity),
        costs={label: float(cost_N[0]) for label, cost_N in costs_of(goal, one, reader).items()},
    )


def _confidence(rarity: float) -> Confidence:
    if np.isnan(rarity):
        return Confidence.UNKNOWN
    if rarity <= ORDINARY:
        return Confidence.HIGH
    return Confidence.MEDIUM if rarity <= RARE else Confidence.LOW
