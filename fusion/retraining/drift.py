"""Does a model still fit its plant? Four tests of a recent period, and a plain sentence for each.

- **embedding**: is what the encoder makes of each stream, and of the plant, distributed as it was?
- **skill**: does the predictor still remove as much of the persistence error?
- **calibration**: is the alarm threshold passed as often as the plant's budget allows?
- **feedback**: do operators call more alarms a nuisance than they accept?

All of one check share one chance of a false alarm (Holm 1979); and what is certain but too small to
matter is no drift. What is a fault and what is drift no test can tell: ticks of alarms that
operators called useful are left out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from fusion.retraining.records import DriftFinding, DriftKind
from fusion.retraining.sample import Sample
from fusion.retraining.two_samples import (
    BLOCK_TIMES,
    Blocks,
    block_length,
    blocks_of,
    energy_test,
    ratio_test,
    whitened,
)
from fusion.scoring.members import STATE


class DriftLimits(BaseModel):
    """What is drift."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(
        default=0.01, gt=0, lt=1, description="Chance that a check finds drift where there is none"
    )
    min_distance: float = Field(
        default=0.02, ge=0, le=1, description="Energy distance: 0 the same, 1 two single points"
    )
    min_skill_lost: float = Field(
        default=0.1, ge=0, description="Part of the persistence error that is no longer removed"
    )
    min_rate_ratio: float = Field(
        default=3.0, ge=1, description="How many times the budget the alarm rate must be"
    )
    accepted_nuisance: float = Field(
        default=0.3, gt=0, lt=1, description="Share of nuisance among judged alarms that is borne"
    )
    min_blocks: int = Field(
        default=6, ge=4, description="Of each period; with fewer no test can be as sure as that."
    )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How operators judged the alarms of a period."""

    num_useful: int
    num_nuisance: int


@dataclass(frozen=True, slots=True)
class AlarmBudget:
    """How many false alarms a plant accepts, and how long the threshold must be passed for one."""

    per_day: float
    on_delay_ticks: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, and the longest blocks that it exchanged."""

    findings: tuple[DriftFinding, ...]
    block_ticks: int


@dataclass(frozen=True, slots=True)
class _Tested:
    """One test before all are judged together."""

    kind: DriftKind
    about: str
    min_effect: float
    told: str
    statistic: float | None = None
    p_value: float | None = None
    effect: float | None = None


def check(
    then: Sample,
    now: Sample,
    *,
    tick_s: float,
    budget: AlarmBudget,
    verdicts: Verdicts,
    skill_at_training: float | None = None,
    limits: DriftLimits = DriftLimits(),  # noqa: B008 frozen
) -> Checked:
    """Return what drifted between the model's own time and now.

    ``skill_at_training`` is what its manifest says; it is told, and not tested: the test measures
    both periods in the same way.
    """
    names = [name for name in now.embeddings if name in then.embeddings]
    pairs = {name: _pair(then, now, name) for name in names}
    # Each stream by its own memory: a camera forgets in a second, a motor in minutes.
    lengths = {
        name: BLOCK_TIMES if pair is None else max(BLOCK_TIMES, block_length(pair.values))
        for name, pair in pairs.items()
    }
    length = max([BLOCK_TIMES, *lengths.values()])
    tested = [_embedding(name, pairs[name], lengths[name], tick_s, limits) for name in names]
    tested.append(_skill(then, now, length, skill_at_training, limits))
    tested.append(_calibration(now, length, tick_s, budget, limits))
    tested.append(_feedback(verdicts, limits))
    return Checked(judged(tested, limits.level), length)


def judged(tested: Sequence[_Tested], level: float) -> tuple[DriftFinding, ...]:
    """Return the findings of tests that share one chance ``level`` of a false alarm.

    Holm (1979): the smallest of m p-values is held against level / m, the next against
    level / (m - 1), and so on; the first that fails ends it.
    """
    known = sorted(
        (each.p_value, number) for number, each in enumerate(tested) if each.p_value is not None
    )
    level_of = {number: level / (len(known) - rank) for rank, (_, number) in enumerate(known)}
    is_sure: set[int] = set()
    for p_value, number in known:
        if p_value > level_of[number]:
            break
        is_sure.add(number)
    return tuple(
        DriftFinding(
            kind=each.kind,
            about=each.about,
            statistic=each.statistic,
            p_value=each.p_value,
            level=level_of.get(number, level),
            effect=each.effect,
            min_effect=each.min_effect,
            is_drift=number in is_sure
            and each.effect is not None
            and each.effect >= each.min_effect,
            sentence=each.told,
        )
        for number, each in enumerate(tested)
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """The embedding of one stream in both periods, whitened, where it is there."""

    ticks: tuple[np.ndarray, np.ndarray]
    values: tuple[np.ndarray, np.ndarray]


def _pair(then: Sample, now: Sample, name: str) -> _Pair | None:
    parts = []
    for sample in (then, now):
        values_NV = sample.embeddings[name]
        is_there_N = np.isfinite(values_NV).all(axis=-1) if values_NV.size else np.zeros(0, bool)
        parts.append((sample.ticks_N[is_there_N], values_NV[is_there_N]))
    if min(len(ticks_N) for ticks_N, _ in parts) < 2 * BLOCK_TIMES:
        return None
    return _Pair((parts[0][0], parts[1][0]), whitened(parts[0][1], parts[1][1]))


def _embedding(
    name: str, pair: _Pair | None, length: int, tick_s: float, limits: DriftLimits
) -> _Tested:
    whose = "the whole plant" if name == STATE else name
    blocks = None if pair is None else blocks_of(*pair.ticks, length)
    if pair is None or blocks is None or blocks.least < limits.min_blocks:
        return _Tested(
            "embedding", name, limits.min_distance, _too_few(f"how {whose} looks", blocks, limits)
        )
    found = energy_test(*pair.values, blocks)
    told = (
        f"What the model sees of {whose} lies {found.statistic:.3f} from where it was (energy "
        f"distance, 0 to 1; {limits.min_distance:g} matters), p {found.p_value:.2g} over "
        f"{blocks.num_first} and {blocks.num_second} blocks of {length * tick_s:g} s."
    )
    return _Tested(
        "embedding",
        name,
        limits.min_distance,
        told,
        found.statistic,
        found.p_value,
        found.statistic,
    )


def _skill(
    then: Sample, now: Sample, length: int, at_training: float | None, limits: DriftLimits
) -> _Tested:
    blocks = blocks_of(then.ticks_N, now.ticks_N, length)
    if blocks.least < limits.min_blocks:
        return _Tested(
            "skill", STATE, limits.min_skill_lost, _too_few("prediction", blocks, limits)
        )
    # The farthest horizon that the window scores: there persistence is worth least.
    error_K = blocks.means(then.errors_NH[:, -1], now.errors_NH[:, -1])
    persistence_K = blocks.means(then.persistence_NH[:, -1], now.persistence_NH[:, -1])
    found = ratio_test(error_K, persistence_K, blocks)
    first, second = slice(blocks.num_first), slice(blocks.num_first, None)
    was, is_now = (1 - error_K[part].sum() / persistence_K[part].sum() for part in (first, second))
    manifest = "" if at_training is None else f" (its manifest says {at_training:.2f})"
    told = (
        f"Predictions remove {is_now:.2f} of the persistence error and removed {was:.2f} then"
        f"{manifest}: {found.statistic:+.2f} lost, {limits.min_skill_lost:g} matters, p "
        f"{found.p_value:.2g}."
    )
    return _Tested(
        "skill",
        STATE,
        limits.min_skill_lost,
        told,
        found.statistic,
        found.p_value,
        found.statistic,
    )


def _calibration(
    now: Sample, length: int, tick_s: float, budget: AlarmBudget, limits: DriftLimits
) -> _Tested:
    """Count blocks with an alarm: one that never ends passes the threshold only once."""
    above_N = now.surprise_N >= 1
    if budget.on_delay_ticks > 1 and len(above_N) >= budget.on_delay_ticks:
        windows = np.lib.stride_tricks.sliding_window_view(above_N, budget.on_delay_ticks)
        above_N = np.concatenate([np.zeros(budget.on_delay_ticks - 1, bool), windows.all(axis=-1)])
    at_N = (now.ticks_N - now.ticks_N[:1]) // length
    num_blocks = len(np.unique(at_N))
    num_alarming = len(np.unique(at_N[above_N]))
    if not num_blocks:
        return _Tested("calibration", "alarms", limits.min_rate_ratio, "No tick could be scored.")
    expected = -math.expm1(-budget.per_day * length * tick_s / 86_400)
    p_value = float(stats.binomtest(num_alarming, num_blocks, expected, "greater").pvalue)
    ratio = num_alarming / num_blocks / expected
    told = (
        f"The threshold was passed in {num_alarming} of {num_blocks} blocks of {length * tick_s:g} "
        f"s, {ratio:.1f} times what the budget of {budget.per_day:g} a day allows "
        f"({limits.min_rate_ratio:g} times matters), p {p_value:.2g}."
    )
    return _Tested(
        "calibration", "alarms", limits.min_rate_ratio, told, float(num_alarming), p_value, ratio
    )


def _feedback(verdicts: Verdicts, limits: DriftLimits) -> _Tested:
    num_judged = verdicts.num_useful + verdicts.num_nuisance
    if not num_judged:
        return _Tested(
            "feedback", "alarms", limits.accepted_nuisance, "No alarm of the period was judged."
        )
    share = verdicts.num_nuisance / num_judged
    p_value = float(
        stats.binomtest(
            verdicts.num_nuisance, num_judged, limits.accepted_nuisance, "greater"
        ).pvalue
    )
    told = (
        f"Operators called {verdicts.num_nuisance} of {num_judged} judged alarms a nuisance "
        f"({share:.0%}; {limits.accepted_nuisance:.0%} is borne), p {p_value:.2g}."
    )
    return _Tested(
        "feedback", "alarms", limits.accepted_nuisance, told, float(share), p_value, float(share)
    )


def _too_few(what: str, blocks: Blocks | None, limits: DriftLimits) -> str:
    there = "none" if blocks is None else f"{blocks.num_first} and {blocks.num_second}"
    return (
        f"Whether {what} drifts cannot be said: {limits.min_blocks} blocks that know nothing of "
        f"one another are needed of each period, and there are {there}; check a longer period."
    )
