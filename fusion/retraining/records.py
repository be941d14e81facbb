"""What is kept of drift and of the retrainings that answer it: a journal's entries, and its fold.

Times ``t_ns`` are those of the machine that wrote them; ``from_ns`` and ``until_ns`` are the
plant's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

DriftKind = Literal["embedding", "skill", "calibration", "feedback"]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DriftFinding(_Kept):
    """What one test says."""

    kind: DriftKind
    about: str = Field(description="A stream, or 'state', or the plant's alarms")
    statistic: float | None = Field(description="None where there was too little to test")
    p_value: float | None = None
    level: float = Field(description="The p-value must lie at or below this (Holm's step).")
    effect: float | None = Field(default=None, description="How large, in the unit of min_effect")
    min_effect: float = Field(description="Smaller ones do not matter, however certain.")
    is_drift: bool
    sentence: str


class DriftRecord(_Kept):
    """One check of a plant's model."""

    entry: Literal["check"] = "check"
    id: str = Field(description="Equal checks of equal periods have the same.")
    t_ns: int
    plant: str
    model_version: str
    data_version: str
    from_ns: int
    until_ns: int
    num_ticks: int
    num_left_out: int = Field(default=0, description="Ticks of alarms that operators call useful")
    block_s: float = Field(description="The longest blocks that tests exchanged")
    new_data_s: float = Field(description="Plant time since the newest data that the model knows")
    duration_s: float
    findings: tuple[DriftFinding, ...]

    @property
    def drifts(self) -> tuple[DriftFinding, ...]:
        """The findings that are drift."""
        return tuple(each for each in self.findings if each.is_drift)

    @property
    def is_drift(self) -> bool:
        """Whether anything drifts."""
        return any(each.is_drift for each in self.findings)


class Intended(_Kept):
    """A retraining is to be started; written before anything is asked for it."""

    entry: Literal["intended"] = "intended"
    id: str = Field(description="Whoever starts it twice by this id has started it once.")
    t_ns: int
    plant: str
    model_version: str = Field(description="The champion that it answers for")
    why: str
    answers: tuple[str, ...] = Field(description="The ids of checks")


class Started(_Kept):
    """It was handed over; ``run`` is its name there."""

    entry: Literal["started"] = "started"
    id: str
    t_ns: int
    run: str


class Ended(_Kept):
    """It ended; whether its model came into service is the rollout's journal's to say."""

    entry: Literal["ended"] = "ended"
    id: str
    t_ns: int
    has_failed: bool
    how: str = ""


Entry = Annotated[DriftRecord | Intended | Started | Ended, Field(discriminator="entry")]
ENTRY: TypeAdapter[DriftRecord | Intended | Started | Ended] = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class Retraining:
    """One retraining as far as it is known."""

    id: str
    t_ns: int
    plant: str
    why: str
    answers: tuple[str, ...] = ()
    run: str | None = None
    """None: it was intended, and may not have been handed over."""
    ended_ns: int | None = None
    has_failed: bool = False
    how: str = ""
    started_ns: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ended_ns is None


@dataclass(frozen=True, slots=True)
class DriftHistory:
    """The checks and retrainings of one plant, oldest first."""

    records: list[DriftRecord] = field(default_factory=list[DriftRecord])
    retrainings: list[Retraining] = field(default_factory=list[Retraining])


def history_of(
    entries: Iterable[DriftRecord | Intended | Started | Ended], plant: str
) -> DriftHistory:
    """Return what the journal says of the plant at the address ``plant``."""
    records: list[DriftRecord] = []
    by_id: dict[str, Retraining] = {}
    for each in entries:
        if isinstance(each, DriftRecord):
            records += [each] if each.plant == plant else []
        elif isinstance(each, Intended):
            if each.plant == plant:
                by_id[each.id] = Retraining(each.id, each.t_ns, plant, each.why, each.answers)
        elif each.id in by_id:
            by_id[each.id] = _after(by_id[each.id], each)
    return DriftHistory(records, list(by_id.values()))


def _after(before: Retraining, entry: Started | Ended) -> Retraining:
    is_start = isinstance(entry, Started)
    return Retraining(
        before.id,
        before.t_ns,
        before.plant,
        before.why,
        before.answers,
        run=entry.run if isinstance(entry, Started) else before.run,
        started_ns=entry.t_ns if is_start else before.started_ns,
        ended_ns=before.ended_ns if is_start else entry.t_ns,
        has_failed=before.has_failed if isinstance(entry, Started) else entry.has_failed,
        how=before.how if isinstance(entry, Started) else entry.how,
    )
