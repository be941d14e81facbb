"""A journal: one file, a line per entry, appended and synced, never changed.

Whoever extends it holds a lock on the file and is shown what stands in it: what follows from that
is decided once, however many ask.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from fusion.errors import InputError

MAX_BYTES = 16 * 1024 * 1024
_Entry = TypeVar("_Entry")


class LineJournal(Generic[_Entry]):
    """Reads and extends the journal at ``path``; it need not exist yet."""

    def __init__(self, path: Path, adapter: TypeAdapter[_Entry], *, holds: str) -> None:
        """Prepare; ``holds`` names in errors what a line must be, such as "a step of a rollout"."""
        self._path, self._adapter, self._holds = path, adapter, holds

    @property
    def num_bytes(self) -> int:
        """How long the file is: it grows with every entry, and says so without being read."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def entries(self) -> list[_Entry]:
        """Return every entry, oldest first.

        Raises:
            InputError: The file is not a journal.
        """
        if not self._path.is_file():
            return []
        return self._parsed(self._path.read_bytes())

    def extend(self, decide: Callable[[list[_Entry]], Sequence[_Entry]]) -> list[_Entry]:
        """Append what ``decide`` makes of the entries so far; return all. It is on disk then.

        Raises:
            InputError: The file is not a journal; nothing was written. What ``decide`` raises
                leaves the journal as it was, too.
        """
        with self._locked() as file:
            kept = file.read()
            before = self._parsed(kept)
            new = list(decide(before))
            if new:
                # A line that a crash left without its end was never an entry.
                file.seek(kept.rfind(b"\n") + 1)
                file.truncate()
                file.write(b"".join(self._adapter.dump_json(each) + b"\n" for each in new))
                file.flush()
                os.fsync(file.fileno())
        return before + new

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _parsed(self, content: bytes) -> list[_Entry]:
        if len(content) > MAX_BYTES:
            raise InputError(
                f"a journal must be below {MAX_BYTES} bytes, {self._path} is not; look at it"
            )
        whole = content[: content.rfind(b"\n") + 1].splitlines()
        try:
            return [self._adapter.validate_json(line) for line in whole]
        except ValidationError as invalid:
            raise InputError(
                f"{self._path} must hold {self._holds} in every line, but: {invalid}; restore it "
                "from a backup"
            ) from invalid
