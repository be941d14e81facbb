"""When a version has to go back: five rules, each on what was seen of it since its last step.

The rules say nothing before they have seen enough. Each compares with a limit or with the version
that scores the same ticks beside it; a fault of the plant makes both alarm, and accuses neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Rule(StrEnum):
    """Why a version goes back."""

    PARITY = "parity"
    ERRORS = "error rate"
    LATENCY = "latency"
    ALARMS = "alarm rate"
    NUISANCE = "nuisance"


class Limits(BaseModel):
    """What is still good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_error_rate: float = Field(default=0.05, gt=0, lt=1, description="Of the calls seen")
    min_failed: int = Field(default=5, ge=1, description="Below, failed calls say nothing.")
    min_calls: int = Field(default=20, ge=1, description="Below, latency says nothing.")
    max_p95_s: float = Field(default=0.25, gt=0, description="Latency of one call, 95 %")
    min_ticks: int = Field(default=20, ge=1, description="Below, alarm rates say nothing ...")
    min_watched_s: float = Field(
        default=30.0, ge=0, description="... nor before so much of a plant's time was scored."
    )
    max_alarm_gap: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="How far the shares of ticks in alarm may lie apart: an alarm that never ends "
        "is raised only once.",
    )
    false_alarms_per_day: float = Field(default=1.0, gt=0, description="The plant's budget")
    band_deviations: float = Field(
        default=3.0, gt=0, description="Half width of the band of alarms, in Poisson deviations"
    )
    max_nuisance: int = Field(default=3, ge=1, description="Alarms that operators call a nuisance")
    max_nuisance_share: float = Field(
        default=0.5, gt=0, le=1, description="... and their part of all that were judged"
    )


class Seen(BaseModel):
    """What one version did lately (calls) and since its last step (ticks, alarms, verdicts)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_calls: int = 0
    num_failed: int = 0
    p95_s: float = 0.0
    num_ticks: int = 0
    num_alarm_ticks: int = 0
    """Ticks whose surprise was at or above the threshold."""
    num_alarms: int = 0
    mean_surprise: float = 0.0
    num_nuisance: int = 0
    num_useful: int = 0
    parity_broken: str | None = None
    """What a golden window said that it should not; None while all is well."""

    def figures(self) -> dict[str, float]:
        """Return the numbers, for the journal."""
        return {k: float(v) for k, v in self.model_dump(exclude={"parity_broken"}).items()}


class Problem(NamedTuple):
    """A broken rule, and the sentence that the journal keeps."""

    rule: Rule
    sentence: str


def problem(seen: Seen, beside: Seen, limits: Limits, *, tick_s: float) -> Problem | None:
    """Return the first rule that a version broke, judged by what it and the other one did.

    ``beside`` is the version that scored the same ticks. A server that is away fails both: then the
    error rate accuses neither. (Where scoring waits for one version, the other one is not asked:
    whoever judges has to ask it before.)
    """
    if seen.parity_broken is not None:
        return Problem(Rule.PARITY, seen.parity_broken)
    return (
        _problem_of_calls(seen, beside, limits)
        or _problem_of_alarms(seen, beside, limits, tick_s)
        or _problem_of_verdicts(seen, limits)
    )


def _problem_of_calls(seen: Seen, beside: Seen, limits: Limits) -> Problem | None:
    rate, other = _rate(seen), _rate(beside)
    is_failing = seen.num_failed >= limits.min_failed
    if is_failing and rate > limits.max_error_rate and rate > 2 * other:
        return Problem(
            Rule.ERRORS,
            f"{seen.num_failed} of its last {seen.num_calls} calls failed ({rate:.0%}); "
            f"{limits.max_error_rate:.0%} may, and beside it {other:.0%} did",
        )
    if seen.num_calls - seen.num_failed < limits.min_calls:
        return None
    if seen.p95_s > limits.max_p95_s and seen.p95_s > 2 * beside.p95_s:
        return Problem(
            Rule.LATENCY,
            f"95 % of its last {seen.num_calls} calls took up to {seen.p95_s * 1e3:.0f} ms; "
            f"{limits.max_p95_s * 1e3:.0f} ms may pass, and beside it {beside.p95_s * 1e3:.0f} ms "
            "did",
        )
    return None


def _problem_of_alarms(seen: Seen, beside: Seen, limits: Limits, tick_s: float) -> Problem | None:
    num_ticks = min(seen.num_ticks, beside.num_ticks)
    if num_ticks < limits.min_ticks or num_ticks * tick_s < limits.min_watched_s:
        return None
    share, other_share = _alarm_share(seen), _alarm_share(beside)
    # Who is silent where the other one's alarms were called a nuisance does what it was made for.
    may_be_silent = _are_nuisance(beside, limits)
    if abs(share - other_share) > limits.max_alarm_gap and not (
        may_be_silent and share < other_share
    ):
        return Problem(
            Rule.ALARMS,
            f"it was above its alarm threshold in {share:.0%} of {seen.num_ticks} ticks, and "
            f"beside it {other_share:.0%} were; they may lie {limits.max_alarm_gap:.0%} apart",
        )
    low, high = expected_alarms(seen.num_ticks, beside, limits, tick_s=tick_s)
    low = 0.0 if may_be_silent else low
    if not low <= seen.num_alarms <= high:
        return Problem(
            Rule.ALARMS,
            f"it raised {seen.num_alarms} alarms in {seen.num_ticks} ticks, where {low:.0f} to "
            f"{high:.0f} were expected (beside it {beside.num_alarms}, the plant's budget is "
            f"{limits.false_alarms_per_day:g} a day)",
        )
    return None


def _problem_of_verdicts(seen: Seen, limits: Limits) -> Problem | None:
    if not _are_nuisance(seen, limits):
        return None
    judged = seen.num_nuisance + seen.num_useful
    return Problem(
        Rule.NUISANCE,
        f"operators called {seen.num_nuisance} of the {judged} alarms that they judged a nuisance",
    )


def _are_nuisance(seen: Seen, limits: Limits) -> bool:
    """Whether operators called enough alarms a nuisance, and too many of those that they judged."""
    judged = seen.num_nuisance + seen.num_useful
    is_enough = seen.num_nuisance >= limits.max_nuisance
    return is_enough and seen.num_nuisance > limits.max_nuisance_share * judged


def expected_alarms(
    num_ticks: int, beside: Seen, limits: Limits, *, tick_s: float
) -> tuple[float, float]:
    """Return the least and the most alarms that ``num_ticks`` may bring.

    Around the count of the version beside it, or the plant's budget where that is more: a Poisson
    count deviates by the root of its mean (the normal approximation; one is always allowed).

    Example:
        >>> expected_alarms(1000, Seen(num_ticks=1000, num_alarms=16), Limits(), tick_s=0.5)
        (3.0, 29.0)
        >>> expected_alarms(1000, Seen(num_ticks=1000), Limits(), tick_s=0.5)[0]
        0.0
    """
    beside_alarms = beside.num_alarms * num_ticks / max(beside.num_ticks, 1)
    budget = limits.false_alarms_per_day * num_ticks * tick_s / 86_400
    mean = max(beside_alarms, budget)
    reach = limits.band_deviations * math.sqrt(mean)
    low = max(0.0, beside_alarms - limits.band_deviations * math.sqrt(beside_alarms) - 1)
    return low, mean + reach + 1


def together(seen: Sequence[Seen]) -> Seen:
    """Return what one version did in several processes; of the latencies, the slowest one's.

    Example:
        >>> both = together([Seen(num_ticks=30, mean_surprise=0.5), Seen(num_ticks=10)])
        >>> both.num_ticks, both.mean_surprise
        (40, 0.375)
    """
    counted = {
        name: sum(getattr(each, name) for each in seen)
        for name in Seen.model_fields
        if name.startswith("num_")
    }
    weighed = sum(each.mean_surprise * each.num_ticks for each in seen)
    return Seen.model_validate(
        counted
        | {
            "p95_s": max((each.p95_s for each in seen), default=0.0),
            "mean_surprise": weighed / max(counted["num_ticks"], 1),
            "parity_broken": next((s.parity_broken for s in seen if s.parity_broken), None),
        }
    )


def _alarm_share(seen: Seen) -> float:
    return seen.num_alarm_ticks / seen.num_ticks if seen.num_ticks else 0.0


def _rate(seen: Seen) -> float:
    return seen.num_failed / seen.num_calls if seen.num_calls else 0.0
