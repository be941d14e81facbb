"""The journal of a plant's versions: one file, a line per step, appended and synced, never changed.

It lies beside the model versions, where every live process of the plant finds it. Whoever takes a
step holds a lock on the file, and names the state that it saw.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.rollout.states import Action, Entry, Rollout, replayed

JOURNAL_FILE = "rollout.jsonl"
MAX_BYTES = 16 * 1024 * 1024


class RolloutJournal:
    """Reads and extends the journal at ``path``; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def num_bytes(self) -> int:
        """How long the file is: it grows with every step, and says so without being read."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def entries(self) -> list[Entry]:
        """Return every step, oldest first.

        Raises:
            InputError: The file is not a journal.
        """
        if not self._path.is_file():
            return []
        return _parsed(self._path.read_bytes(), self._path)

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
        with self._locked() as file:
            kept = file.read()
            state = replayed(_parsed(kept, self._path))
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
            after = state.after(entry)
            # A line that a crash left without its end was never a step.
            file.seek(kept.rfind(b"\n") + 1)
            file.truncate()
            file.write(entry.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return after

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def journal_of(settings: Settings, plant: Plant) -> RolloutJournal:
    """Return the journal of the versions of ``plant``."""
    return RolloutJournal(settings.models_dir / plant.prefix / JOURNAL_FILE)


def _parsed(content: bytes, path: Path) -> list[Entry]:
    if len(content) > MAX_BYTES:
        raise InputError(f"a journal must be below {MAX_BYTES} bytes, {path} is not; look at it")
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        return [Entry.model_validate_json(line) for line in whole]
    except ValidationError as invalid:
        raise InputError(
            f"{path} must hold a step of a rollout in every line, but: {invalid}; restore it from "
            "a backup"
        ) from invalid
