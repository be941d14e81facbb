"""Starts the retraining that kept records call for, once, however often and by whomever it is run.

What is to be started is written into the journal first, under its lock, then handed over by its id.
Killed in between, the next run hands it over again, and the other side knows the id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flows import wiring
from flows.drift import champion_of
from flows.drift_journal import DriftJournal, drift_history, drift_journal_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.decision import Decision, RetrainingPolicy, decide
from fusion.retraining.records import (
    DriftRecord,
    Ended,
    Intended,
    Retraining,
    Started,
    history_of,
)

RunState = Literal["running", "finished", "failed"]


class Retrainer(Protocol):
    """Runs retrainings somewhere."""

    def start(self, plant_file: str, reason: str, *, key: str) -> str:
        """Start one and return its name there; with a ``key`` that was used before, that one's."""
        ...

    def state(self, run: str) -> RunState:
        """Return how a run does; one that nobody knows any more has failed."""
        ...

    def give_up(self, run: str, why: str) -> None:
        """Let a run count there as one that broke down, and never begin if it still waits."""
        ...


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one run of the reconciler did."""

    decision: Decision
    started: tuple[str, ...]
    """The runs that were handed over now."""


def reconcile(
    plant_file: Path,
    plant: Plant,
    settings: Settings,
    retrainer: Retrainer,
    policy: RetrainingPolicy,
) -> Reconciled:
    """Bring retrainings in line with what was found, and return what was decided.

    Raises:
        InputError: There is no model of the plant, or the journal cannot be read.
        Whatever ``retrainer`` raises; run it again.
    """
    journal = drift_journal_of(settings, plant)
    for each in drift_history(settings, plant).retrainings:
        if each.is_open and each.run is not None:
            _note_end(journal, each, each.run, retrainer, policy)
    decision = _decide_once(journal, plant, settings, policy)
    started: list[str] = []
    for each in drift_history(settings, plant).retrainings:
        if each.is_open and each.run is None:
            run = retrainer.start(str(plant_file), each.why, key=each.id)
            _note_start(journal, each.id, run)
            started.append(run)
    return Reconciled(decision, tuple(started))


def _decide_once(
    journal: DriftJournal, plant: Plant, settings: Settings, policy: RetrainingPolicy
) -> Decision:
    """Decide under the journal's lock; what is due stands in the journal afterwards."""
    champion, address = champion_of(plant, settings).name, str(plant.address)
    challenger = journal_of(settings, plant).state().challenger
    decisions: list[Decision] = []

    def follow(entries: list[DriftRecord | Intended | Started | Ended]) -> list[Intended]:
        history, now_ns = history_of(entries, address), wiring.open_clock().now_ns()
        decision = decide(
            policy,
            history.records,
            history.retrainings,
            champion=champion,
            now_ns=now_ns,
            challenger=challenger,
        )
        decisions.append(decision)
        if not decision.is_due:
            return []
        said = "\n".join([address, str(now_ns), *decision.answers])
        return [
            Intended(
                id=hashlib.sha256(said.encode()).hexdigest()[:16],
                t_ns=now_ns,
                plant=address,
                model_version=champion,
                why=decision.why,
                answers=decision.answers,
            )
        ]

    journal.extend(follow)
    return decisions[0]


def _note_start(journal: DriftJournal, id_: str, run: str) -> None:
    """Write down that a retraining was handed over, unless somebody else has."""
    started = Started(id=id_, t_ns=wiring.open_clock().now_ns(), run=run)
    journal.extend(
        lambda entries: (
            []
            if any(isinstance(each, Started) and each.id == id_ for each in entries)
            else [started]
        )
    )


def _note_end(
    journal: DriftJournal,
    retraining: Retraining,
    run: str,
    retrainer: Retrainer,
    policy: RetrainingPolicy,
) -> None:
    state, now_ns = retrainer.state(run), wiring.open_clock().now_ns()
    how = f"run {run} {state}"
    if state == "running":
        assert retraining.started_ns is not None, "it was handed over"
        if now_ns - retraining.started_ns < policy.max_running_s * NANOSECONDS:
            return
        how = f"run {run} had not ended after {policy.max_running_s / 3600:g} h, and is given up"
        retrainer.give_up(run, how)
    ended = Ended(id=retraining.id, t_ns=now_ns, has_failed=state != "finished", how=how)
    journal.extend(
        lambda entries: (
            []
            if any(isinstance(each, Ended) and each.id == ended.id for each in entries)
            else [ended]
        )
    )
