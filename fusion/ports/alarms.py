"""The history of alarms, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a plant's alarm journal, with its place in the chain."""

    id: str
    plant: str
    name: str
    """Of the alarm."""
    transition: str
    t_ns: int
    number: int
    """In the plant's chain, from 1; 0 where an earlier release wrote it."""
    previous: str
    hash: str
    line: bytes
    """The line's own bytes, which the hash is of."""


class AlarmLog(Protocol):
    """Keeps the journal of alarms for as long as a plant must show it, to be asked by time."""

    def append(self, entries: Sequence[JournalEntry]) -> int:
        """Store ``entries`` that are not stored yet, all or none, and return how many were new.

        An entry is told by its id: what is appended again is kept once, as it first was.

        Raises:
            AlarmLogUnavailableError: Not known to be stored; call again.
        """
        ...

    def read(
        self, *, plant: str, start_ns: int, end_ns: int, name: str | None = None, limit: int = 1_000
    ) -> list[JournalEntry]:
        """Return the newest ``limit`` entries from ``start_ns`` up to, not including, ``end_ns``.

        In the order of their time, then of the chain.

        Raises:
            AlarmLogUnavailableError: It did not answer.
        """
        ...

    def head(self, plant: str) -> JournalEntry | None:
        """Return the entry with the highest number of a plant's chain; None without any.

        Raises:
            AlarmLogUnavailableError: It did not answer.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@dataclass(frozen=True, slots=True)
class Notice:
    """What people away from the screen are told of an alarm."""

    id: str
    """The same notice always has the same id: receivers may drop repeats."""
    subject: str
    text: str
    priority: str
    plant: str
    name: str
    t_ns: int


class Notifier(Protocol):
    """Tells people: one channel of messages."""

    def notify(self, notice: Notice) -> None:
        """Hand ``notice`` over. When the call returns, the other side has taken it.

        Raises:
            NotifierUnavailableError: It did not take it; call again with the same notice.
        """
        ...
