"""Whether to retrain now, and why: a pure policy over what was found and what was already done.

Nothing here remembers: the same records, retrainings and moment give the same decision, so a
reconciler may ask as often as it likes, and an event that got lost changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from fusion.plant import NANOSECONDS
from fusion.retraining.records import DriftRecord, Retraining

WEEK_NS = 7 * 24 * 3600 * NANOSECONDS


class RetrainingPolicy(BaseModel):
    """When drift is answered with a new model. Times are those of the machine that checks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confirmations: int = Field(
        default=2,
        ge=1,
        description="So many checks one after the other, of periods that do not overlap, must find "
        "drift: one false alarm in a hundred checks becomes one in ten thousand.",
    )
    cool_down_s: float = Field(
        default=6 * 3600.0, ge=0, description="Nothing starts sooner after the last one began."
    )
    most_per_week: int = Field(default=3, ge=0, description="In any seven days; failed ones count.")
    min_new_data_s: float = Field(
        default=3600.0,
        ge=0,
        description="So much must have come since the model's own data: with less the new model "
        "would be the old one.",
    )
    max_record_age_s: float = Field(
        default=7 * 24 * 3600.0, gt=0, description="Older findings say nothing about today."
    )
    max_running_s: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="A retraining that has not ended after so long is given up, and has failed: a "
        "machine that lost its power leaves a run behind that nobody ends.",
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    is_due: bool
    why: str
    """A sentence; where it is due, the reason that the retraining is given."""
    answers: tuple[str, ...] = ()
    """The ids of the records that a retraining would answer."""


def decide(
    policy: RetrainingPolicy,
    records: Sequence[DriftRecord],
    retrainings: Sequence[Retraining],
    *,
    champion: str,
    now_ns: int,
    challenger: str | None = None,
) -> Decision:
    """Return whether a retraining is due; ``records`` and ``retrainings`` are one plant's.

    What was found of another version than ``champion`` counts no longer, nor what a retraining
    has answered that did not fail. While a ``challenger`` proves itself nothing is due: a second
    one could not, and would cost a turn of the budget.
    """
    going = [each for each in retrainings if each.is_open]
    if going:
        return Decision(
            is_due=False, why=f"a retraining goes on since its beginning: {going[0].id}"
        )
    if challenger is not None:
        return Decision(
            is_due=False,
            why=f"{challenger} proves itself beside {champion}: it is promoted or goes back first "
            "(`fusion models show`)",
        )
    confirming = confirmed_by(policy, records, retrainings, champion=champion, now_ns=now_ns)
    if len(confirming) < policy.confirmations:
        return Decision(
            is_due=False,
            why=f"{len(confirming)} of the {policy.confirmations} checks in a row that must find "
            f"drift of {champion} have found some",
        )
    held_back = _held_back(policy, retrainings, now_ns) or _too_little(policy, confirming[-1])
    answers = tuple(each.id for each in confirming)
    if held_back:
        return Decision(is_due=False, why=held_back, answers=answers)
    sentences = [each.sentence for each in confirming[-1].drifts]
    return Decision(is_due=True, why=f"{champion} drifts: {' '.join(sentences)}", answers=answers)


def confirmed_by(
    policy: RetrainingPolicy,
    records: Sequence[DriftRecord],
    retrainings: Sequence[Retraining],
    *,
    champion: str,
    now_ns: int,
) -> list[DriftRecord]:
    """Return the newest checks in a row that found drift and are not answered, oldest first.

    Of checks whose periods overlap, the newer one alone counts: they saw the same ticks.
    """
    answered = {id_ for each in retrainings if not each.has_failed for id_ in each.answers}
    oldest_ns = now_ns - round(policy.max_record_age_s * NANOSECONDS)
    told = [
        each
        for each in records
        if each.model_version == champion and oldest_ns <= each.t_ns <= now_ns
    ]
    confirming: list[DriftRecord] = []
    for record in sorted(told, key=lambda each: (each.until_ns, each.t_ns), reverse=True):
        if not record.is_drift or record.id in answered:
            break
        if not confirming or record.until_ns <= confirming[-1].from_ns:
            confirming.append(record)
    return confirming[::-1]


def _held_back(
    policy: RetrainingPolicy, retrainings: Sequence[Retraining], now_ns: int
) -> str | None:
    """Return why nothing may start yet, whatever was found."""
    if any(now_ns - each.t_ns < policy.cool_down_s * NANOSECONDS for each in retrainings):
        return f"the last retraining began less than {policy.cool_down_s / 3600:g} h ago"
    lately = sum(now_ns - each.t_ns < WEEK_NS for each in retrainings)
    if lately >= policy.most_per_week:
        return (
            f"{lately} retrainings began within seven days, and {policy.most_per_week} may; look "
            "at what drifts: retraining does not mend it"
        )
    return None


def _too_little(policy: RetrainingPolicy, newest: DriftRecord) -> str | None:
    if newest.new_data_s < policy.min_new_data_s:
        return (
            f"{newest.new_data_s / 60:.0f} min of data are new to the model, and "
            f"{policy.min_new_data_s / 60:.0f} min must be"
        )
    return None
