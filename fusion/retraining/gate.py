"""Whether a challenger may go on: explicit rules on measured figures, and the decision in words.

Figures are numbers by name; NaN, or none, is what could not be measured. The gate is pure: what it
was told is all that it knows, so a decision can be repeated from its record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

Figures = Mapping[str, float]


class Kind(StrEnum):
    """What a rule asks."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    FLOOR = "floor"


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    is_higher_better: bool


class Better(_Rule):
    """The challenger must be better than the champion by at least ``by``; one such rule is enough.

    ``relative`` widens it by a part of the champion's figure.
    """

    by: float = Field(gt=0)
    relative: float = Field(default=0.0, ge=0)


class NotWorse(_Rule):
    """The challenger must not be worse than the champion by more than ``slack``. All must hold."""

    slack: float = Field(default=0.0, ge=0)


class Floor(_Rule):
    """The figure must reach ``limit``, whatever the champion does. All must hold."""

    limit: float
    beside: str | None = Field(
        default=None, description="The limit is this method's figure (a baseline's) plus `limit`."
    )


class GateRecipe(BaseModel):
    """The rules. What no rule names decides nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    better: tuple[Better, ...] = (
        Better(figure="false_alarms", is_higher_better=False, by=1, relative=0.1),
        # An alarm that never ends is raised once: of a plant that has moved, its share tells.
        Better(figure="alarm_share", is_higher_better=False, by=0.1),
        Better(figure="recall", is_higher_better=True, by=0.01),
        Better(figure="skill", is_higher_better=True, by=0.02),
    )
    not_worse: tuple[NotWorse, ...] = (
        # Both saw the same ticks: counts are compared, and one alarm more may be chance.
        NotWorse(figure="false_alarms", is_higher_better=False, slack=1),
        NotWorse(figure="recall", is_higher_better=True, slack=0),
        NotWorse(figure="median_delay_s", is_higher_better=False, slack=10),
        NotWorse(figure="skill", is_higher_better=True, slack=0.02),
        NotWorse(figure="coverage", is_higher_better=True, slack=0.1),
    )
    floors: tuple[Floor, ...] = (
        Floor(figure="rankme", is_higher_better=True, limit=3.0),
        Floor(figure="alarm_share", is_higher_better=False, limit=0.1),
        Floor(figure="skill", is_higher_better=True, limit=0.0),
        # Of bands that should hold 90 %. What was calibrated on little, or elsewhere, may never
        # alarm, however far off the plant is: its bands give it away.
        Floor(figure="coverage", is_higher_better=True, limit=0.5),
    )
    first_floors: tuple[Floor, ...] = Field(
        default=(Floor(figure="recall", is_higher_better=True, limit=0.0, beside="baseline"),),
        description="Beside the floors, while there is no champion to be compared with.",
    )


class Ruling(BaseModel):
    """One rule, what it found, and whether it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    figure: str
    is_met: bool
    sentence: str


class Decision(BaseModel):
    """Whether the challenger goes on, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_passed: bool
    why: str
    rulings: tuple[Ruling, ...]


def decide(
    challenger: Figures, champion: Figures | None, baseline: Figures, recipe: GateRecipe
) -> Decision:
    """Return whether ``challenger`` may go on beside or in the place of ``champion``.

    Without a champion only floors are asked, some of them against the plain ``baseline``.
    """
    floors = recipe.floors if champion is not None else recipe.floors + recipe.first_floors
    rulings = [_floor(rule, challenger, {"baseline": baseline}) for rule in floors]
    better: list[Ruling] = []
    if champion is not None:
        rulings += [_not_worse(rule, challenger, champion) for rule in recipe.not_worse]
        better = [_better(rule, challenger, champion) for rule in recipe.better]
    broken = [each for each in rulings if not each.is_met]
    gains = [each for each in better if each.is_met]
    is_passed = not broken and (champion is None or bool(gains))
    if broken:
        why = "refused: " + "; ".join(each.sentence for each in broken)
    elif champion is None:
        why = "passed: there is no champion yet, and every floor holds"
    elif not gains:
        why = "refused: it is no worse than the champion, and better in nothing that counts: "
        why += "; ".join(each.sentence for each in better)
    else:
        why = "passed: " + "; ".join(each.sentence for each in gains)
    return Decision(is_passed=is_passed, why=why, rulings=(*better, *rulings))


def _better(rule: Better, challenger: Figures, champion: Figures) -> Ruling:
    mine, theirs = _of(challenger, rule.figure), _of(champion, rule.figure)
    least = rule.by + rule.relative * (abs(theirs) if math.isfinite(theirs) else 0.0)
    gain = _gain(mine, theirs, rule)
    is_met = gain >= least  # (not with NaN)
    told = f"{_word(rule.figure)} {_shown(mine)} beside {_shown(theirs)}"
    return Ruling(
        kind=Kind.BETTER,
        figure=rule.figure,
        is_met=is_met,
        sentence=f"{told}, {'better' if is_met else 'not better'} by {least:.3g}",
    )


def _not_worse(rule: NotWorse, challenger: Figures, champion: Figures) -> Ruling:
    mine, theirs = _of(challenger, rule.figure), _of(champion, rule.figure)
    # What the champion was not measured on cannot be held against the challenger.
    is_met = math.isnan(theirs) or _gain(mine, theirs, rule) >= -rule.slack
    told = f"{_word(rule.figure)} {_shown(mine)} beside {_shown(theirs)}"
    return Ruling(
        kind=Kind.NOT_WORSE,
        figure=rule.figure,
        is_met=is_met,
        sentence=f"{told}, {'not worse' if is_met else 'worse'} than {rule.slack:.3g} apart",
    )


def _floor(rule: Floor, challenger: Figures, others: Mapping[str, Figures]) -> Ruling:
    mine, limit = _of(challenger, rule.figure), rule.limit
    if rule.beside is not None:
        limit += _of(others[rule.beside], rule.figure)
    # With a baseline that could not be measured, nothing can be asked.
    is_met = math.isnan(limit) or _gain(mine, limit, rule) >= 0
    side = "at least" if rule.is_higher_better else "at most"
    beside = f", what the {rule.beside} reaches" if rule.beside else ""
    return Ruling(
        kind=Kind.FLOOR,
        figure=rule.figure,
        is_met=is_met,
        sentence=f"{_word(rule.figure)} {_shown(mine)}, {side} {_shown(limit)} is asked{beside}",
    )


def _gain(mine: float, theirs: float, rule: _Rule) -> float:
    if mine == theirs:
        return 0.0  # (infinities too)
    return (mine - theirs) * (1 if rule.is_higher_better else -1)


def _of(figures: Figures, name: str) -> float:
    return figures.get(name, math.nan)


def _word(figure: str) -> str:
    return figure.replace("_", " ")


def _shown(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3g}"
