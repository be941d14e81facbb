"""Where checks for drift, and the retrainings that answer them, are kept: one file per prefix."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flows.line_journal import MAX_BYTES, LineJournal
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.retraining.records import (
    ENTRY,
    DriftHistory,
    DriftRecord,
    Ended,
    Intended,
    Started,
    history_of,
)

JOURNAL_FILE = "drift.jsonl"
DriftJournal = LineJournal[DriftRecord | Intended | Started | Ended]


def drift_journal_of(settings: Settings, plant: Plant) -> DriftJournal:
    """Return the journal of drift of the plants of a prefix; it lies beside their versions."""
    path = settings.models_dir / plant.prefix / JOURNAL_FILE
    return LineJournal(path, ENTRY, holds="a check for drift or a step of a retraining")


def drift_history(settings: Settings, plant: Plant) -> DriftHistory:
    """Return the checks and retrainings of ``plant``.

    Raises:
        InputError: The file is not a journal.
    """
    return history_of(drift_journal_of(settings, plant).entries(), str(plant.address))


def keep_record(settings: Settings, plant: Plant, record: DriftRecord) -> DriftRecord:
    """Keep a check and return what is kept: of equal checks the first, whoever repeats them.

    When the file comes near its bound the oldest checks go, but those that a retraining answered.
    """
    kept = record

    def news(entries: Sequence[DriftRecord | Intended | Started | Ended]) -> list[DriftRecord]:
        nonlocal kept
        before = [e for e in entries if isinstance(e, DriftRecord) and e.id == record.id]
        kept = before[0] if before else record
        return [] if before else [record]

    journal = drift_journal_of(settings, plant)
    if journal.num_bytes > MAX_BYTES // 2:
        journal.forget(_newest)
    journal.extend(news)
    return kept


class NewestChecks:
    """The newest check of each plant of one prefix; the file is read when it has grown."""

    def __init__(self, settings: Settings, plants: Sequence[Plant]) -> None:
        self._journal = drift_journal_of(settings, plants[0])
        self._addresses = {str(plant.address) for plant in plants}
        self._num_bytes = 0
        self._newest: list[DriftRecord] = []

    def __call__(self) -> list[DriftRecord]:
        """Return them; those of before while the file cannot be read, which the log says."""
        num_bytes = self._journal.num_bytes
        if num_bytes != self._num_bytes:
            self._num_bytes = num_bytes
            try:
                entries = self._journal.entries()
            except (InputError, OSError) as unreadable:
                logging.getLogger(__name__).warning("drift is not shown: %s", unreadable)
                return self._newest
            checks = [each for each in entries if isinstance(each, DriftRecord)]
            newest = {each.plant: each for each in sorted(checks, key=lambda each: each.t_ns)}
            self._newest = [each for plant, each in newest.items() if plant in self._addresses]
        return self._newest


def _newest(
    entries: list[DriftRecord | Intended | Started | Ended],
) -> list[DriftRecord | Intended | Started | Ended]:
    """Return all that was done, what it answers, and of the other checks the newest."""
    answered = {id_ for each in entries if isinstance(each, Intended) for id_ in each.answers}
    kept: list[DriftRecord | Intended | Started | Ended] = []
    room = MAX_BYTES // 4
    for each in reversed(entries):
        if isinstance(each, DriftRecord) and each.id not in answered:
            room -= len(each.model_dump_json())
            if room < 0:
                continue
        kept.append(each)
    return kept[::-1]
