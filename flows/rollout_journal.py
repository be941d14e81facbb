"""The journal of a plant's versions: one file, a line per step, appended and synced, never changed.

It lies beside the model versions, where every live process of the plant finds it. Whoever takes a
step holds a lock on the file, and names the state that it saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from flows.line_journal import LineJournal
from flows.settings import Settings
from fusion.plant import Plant
from fusion.rollout.states import Action, Entry, Rollout, replayed

JOURNAL_FILE = "rollout.jsonl"


class RolloutJournal:
    """Reads and extends the journal at ``path``; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._file = LineJournal(path, TypeAdapter(Entry), holds="a step of a rollout")

    @property
    def num_bytes(self) -> int:
        """How long the file is: it grows with every step, and says so without being read."""
        return self._file.num_bytes

    def entries(self) -> list[Entry]:
        """Return every step, oldest first.

        Raises:
            InputError: The file is not a journal.
        """
        return self._file.entries()

    def state(self) -> Rollout:
        """Return where the versions of the plant are now."""
        return replayed(self.entries())

    def append(
        self,
        seen: Rollout,
        action: Action,
        version: str,
        *,
        who: str,
        why: str,
        t_ns: int,
        share: float = 0.0,
        evidence: Mapping[str, float] | None = None,
    ) -> Rollout:
        """Take a step from the state ``seen``, and return the state after it; it is on disk then.

        Raises:
            InputError: The step is not possible, or another one was faster; nothing was written.
        """
        entry = Entry(
            revision=seen.revision + 1,
            t_ns=t_ns,
            action=action,
            version=version,
            who=who,
            why=why,
            share=share,
            evidence=dict(evidence or {}),
        )

        def step(entries: list[Entry]) -> list[Entry]:
            replayed(entries).after(entry)  # (refuses what is not possible)
            return [entry]

        return replayed(self._file.extend(step))


def journal_of(settings: Settings, plant: Plant) -> RolloutJournal:
    """Return the journal of the versions of ``plant``."""
    return RolloutJournal(settings.models_dir / plant.prefix / JOURNAL_FILE)
