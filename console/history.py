"""The journal of alarms farther back than the broker keeps it: the alarm log, beside the picture.

The newest lines may not be in the log yet, the oldest are nowhere else. Called from threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from fusion.errors import AlarmLogUnavailableError
from fusion.ports import AlarmLog, JournalEntry
from fusion.schema import AlarmEvent

FOREVER_NS = 2**63 - 1
CHUNK = 1_000
MAX_SEARCHED = 10_000
"""Lines looked at for one page: a search for what is not there must end."""
MAX_COUNTED = 50_000
"""Lines of each plant that figures are made of."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of the journal, the newest first."""

    events: tuple[AlarmEvent, ...]
    older_ns: int | None
    """There may be older ones before this time; None: these are all."""
    missing: str
    """Why older ones cannot be had; "" where nothing is missing."""


class History:
    """Reads the log that ``open_log`` opens, when it is first needed."""

    def __init__(self, open_log: Callable[[], AlarmLog]) -> None:
        self._open_log = open_log
        self._lock = threading.Lock()
        self._log: AlarmLog | None = None

    def close(self) -> None:
        """Free the log."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    def search(
        self,
        kept: Sequence[AlarmEvent],
        addresses: Collection[str],
        *,
        end_ns: int,
        is_wanted: Callable[[AlarmEvent], bool],
        most: int,
        name: str | None = None,
    ) -> Lines:
        """Return the newest ``most`` lines before ``end_ns`` that are wanted.

        ``kept`` are those in memory, of ``addresses`` only. Lines of one moment stay together, so
        the next page may begin before ``older_ns`` and misses none.
        """
        found: list[AlarmEvent] = []
        num_seen, missing = 0, self._gap(addresses)
        walk = self._back(kept, addresses, end_ns=end_ns, name=name, is_logged=not missing)
        try:
            for event in walk:
                is_full = len(found) >= most or num_seen >= MAX_SEARCHED
                if is_full and event.t_ns < end_ns:
                    return Lines(tuple(found), end_ns, missing)
                num_seen, end_ns = num_seen + 1, event.t_ns
                if is_wanted(event):
                    found.append(event)
        except AlarmLogUnavailableError as away:
            missing = str(away)
        return Lines(tuple(found), None, missing)

    def period(
        self, kept: Sequence[AlarmEvent], addresses: Collection[str], *, start_ns: int, end_ns: int
    ) -> Lines:
        """Return every line of a time, at most 50 000 of each plant, those newest first."""
        found = {event.id: event for event in kept if start_ns <= event.t_ns < end_ns}
        missing, older_ns = self._gap(addresses), None
        for address in () if missing else addresses:
            try:
                entries = self._opened().read(
                    plant=address, start_ns=start_ns, end_ns=end_ns, limit=MAX_COUNTED
                )
            except AlarmLogUnavailableError as away:
                missing = str(away)
                break
            if len(entries) == MAX_COUNTED:
                older_ns = max(older_ns or 0, entries[0].t_ns)
            found |= {e.id: _event(e) for e in entries if e.id not in found}
        newest_first = sorted(found.values(), key=lambda event: -event.t_ns)
        return Lines(tuple(newest_first), older_ns, missing)

    def _back(
        self,
        kept: Sequence[AlarmEvent],
        addresses: Collection[str],
        *,
        end_ns: int,
        name: str | None,
        is_logged: bool,
    ) -> Iterator[AlarmEvent]:
        """Yield everything before ``end_ns``, the newest first, each line once."""
        yielded: set[str] = set()
        while True:
            found = {event.id: event for event in kept if event.t_ns < end_ns}
            reached_ns = 0
            for address in addresses if is_logged else ():
                entries = self._opened().read(
                    plant=address, start_ns=0, end_ns=end_ns, name=name, limit=CHUNK
                )
                if len(entries) == CHUNK:  # (what lies before is not known yet)
                    reached_ns = max(reached_ns, entries[0].t_ns)
                found |= {e.id: _event(e) for e in entries if e.id not in found}
            new = [e for e in found.values() if e.id not in yielded and e.t_ns >= reached_ns]
            for event in sorted(new, key=lambda event: (event.t_ns, event.id), reverse=True):
                yielded.add(event.id)
                yield event
            if reached_ns == 0:
                return
            # A moment may go on in the next chunk; one that fills chunks is passed over.
            end_ns = reached_ns + 1 if reached_ns + 1 < end_ns else reached_ns

    def _gap(self, addresses: Collection[str]) -> str:
        """Return why the log holds nothing of ``addresses``; "" where it does."""
        try:
            log = self._opened()
            if not addresses or any(log.head(address) is not None for address in addresses):
                return ""
        except AlarmLogUnavailableError as away:
            return str(away)
        return "nothing has been carried into the alarms' history yet (fusion alarms record)"

    def _opened(self) -> AlarmLog:
        with self._lock:
            if self._log is None:
                self._log = self._open_log()
            return self._log


def _event(entry: JournalEntry) -> AlarmEvent:
    return AlarmEvent.model_validate_json(entry.line)
