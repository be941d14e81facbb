"""The journal is a chain: each line carries the hash of the one before, so none can be altered.

``SHA-256(previous hash, number, bytes of the line)`` goes into the headers of the record; the line
itself stays what it is. Each plant has a chain of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

NUMBER, PREVIOUS, HASH = "journal-number", "journal-previous", "journal-hash"


class Journal:
    """The head of one plant's chain.

    Example:
        >>> journal = Journal()
        >>> lines = [(journal.enter(line), line) for line in (b"raised", b"cleared")]
        >>> broken_links(lines)
        []
        >>> broken_links([lines[0], (lines[1][0], b"never")])[0][:32]
        'line 2 is not what was written: '
    """

    def __init__(self) -> None:
        self._number = 0
        self._hash = ""

    def enter(self, line: bytes) -> dict[str, str]:
        """Return the headers of the next line."""
        number, previous = self._number + 1, self._hash
        self._number, self._hash = number, _link(previous, number, line)
        return {NUMBER: str(number), PREVIOUS: previous, HASH: self._hash}

    def snapshot(self) -> dict[str, Any]:
        """Return the head, for JSON."""
        return {"number": self._number, "hash": self._hash}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on after the line that ``snapshot`` was taken at."""
        self._number, self._hash = int(snapshot["number"]), str(snapshot["hash"])


def broken_links(lines: Iterable[tuple[Mapping[str, str], bytes]]) -> list[str]:
    """Return in words where the chain of one plant is broken; an empty list where nowhere.

    ``lines`` are headers and bytes in order. What comes before the first line is not asked for: the
    broker lets old lines go. Lines of releases that kept no chain may stand before it.
    """
    found: list[str] = []
    before: tuple[int, str] | None = None
    for headers, line in lines:
        if HASH not in headers:
            if before is not None:
                found.append(f"a line after {before[0]} carries no hash")
            continue
        number, previous = int(headers[NUMBER]), headers[PREVIOUS]
        expected = _link(previous, number, line)
        if expected != headers[HASH]:
            found.append(
                f"line {number} is not what was written: its hash must be {expected[:12]}, it says "
                f"{headers[HASH][:12]}"
            )
        if before is not None and (number, previous) != (before[0] + 1, before[1]):
            found.append(f"line {number} must follow line {before[0]}, and does not")
        before = (number, headers[HASH])
    return found


def _link(previous: str, number: int, line: bytes) -> str:
    digest = hashlib.sha256(f"{previous}\n{number}\n".encode())
    digest.update(line)
    return digest.hexdigest()
