"""Where checks for drift, and the retrainings that answer them, are kept: one file per prefix."""

from __future__ import annotations

from collections.abc import Sequence

from flows.line_journal import LineJournal
from flows.settings import Settings
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
    """Keep a check and return what is kept: of equal checks the first, whoever repeats them."""
    kept = record

    def news(entries: Sequence[DriftRecord | Intended | Started | Ended]) -> list[DriftRecord]:
        nonlocal kept
        before = [e for e in entries if isinstance(e, DriftRecord) and e.id == record.id]
        kept = before[0] if before else record
        return [] if before else [record]

    drift_journal_of(settings, plant).extend(news)
    return kept
