"""A journal: one file, a line per entry, appended and synced; what is written never changes.

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
MAX_BYTES_TO_FORGET = 8 * MAX_BYTES
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

    def forget(self, keep: Callable[[list[_Entry]], Sequence[_Entry]]) -> int:
        """Keep what ``keep`` returns of the entries, in its order; return how many went.

        The file is there whole at every moment. It may be larger than others may read.

        Raises:
            InputError: The file is not a journal; it stays as it was.
        """
        with self._locked() as file:
            before = self._parsed(file.read(), most=MAX_BYTES_TO_FORGET)
            kept = list(keep(before))
            if len(kept) < len(before):
                lines = b"".join(self._adapter.dump_json(each) + b"\n" for each in kept)
                beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
                with beside.open("wb") as new:
                    new.write(lines)
                    new.flush()
                    os.fsync(new.fileno())
                beside.replace(self._path)
        return len(before) - len(kept)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(handle, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Somebody may have put another file there while we waited for this one's lock.
                if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    yield file
                    return

    def _parsed(self, content: bytes, most: int = MAX_BYTES) -> list[_Entry]:
        if len(content) > most:
            raise InputError(
                f"a journal must be below {most} bytes, {self._path} is not; look at it"
            )
        whole = content[: content.rfind(b"\n") + 1].splitlines()
        try:
            return [self._adapter.validate_json(line) for line in whole]
        except ValidationError as invalid:
            raise InputError(
                f"{self._path} must hold {self._holds} in every line, but: {invalid}; restore it "
                "from a backup"
            ) from invalid
