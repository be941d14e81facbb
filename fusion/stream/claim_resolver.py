"""What gives claimed records their values back, and waits for them no longer than is good.

The sender's side is in :mod:`fusion.stream.claims`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from fusion.errors import (
    DeadLetterReason,
    ObjectStoreUnavailableError,
    ObjectTooLargeError,
    RecordError,
)
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, ObjectStore
from fusion.schema import CLAIM_HEADER, Record
from fusion.stream.claims import Claim

PATIENCE_S = 30.0
"""How long a store that is away holds up a plant, once, before its records are refused."""
MISSING_PAUSES_S = (0.1, 0.3, 1.0)
"""An object may become visible a moment after its reference: pauses before it counts as missing."""
AWAY_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between tries while the store is away; the last one repeats."""
MAX_WAITING_SHARE = 0.1
"""Of the time that may go into waiting in vain, so that everything else goes on."""


class ClaimResolver:
    """Gives records their values back.

    A store that is away is waited for, ``patience_s`` from its first failure. Then each record gets
    one try and is refused with ``claim-unavailable`` when that fails: its dead letter can be
    replayed, and the other streams are watched on. The first answer restores the patience.
    ``patience_s`` None waits for no store and refuses nothing for its sake: the caller gets the
    error, to try all of its work again.

    Neither tries that hang nor missing objects can stop a plant: what was waited in vain is paid
    back nine times before the next vain wait.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        prefix: str,
        clock: Clock,
        wait: Callable[[float], None] | None = None,
        patience_s: float | None = PATIENCE_S,
        missing_pauses_s: Sequence[float] = MISSING_PAUSES_S,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._wait = clock.sleep if wait is None else wait
        self._patience_s = patience_s
        self._missing_pauses_s = tuple(missing_pauses_s)
        self._away_since_ns: int | None = None
        self._store_rest = _Rest()
        self._missing_rest = _Rest()

    def resolve(self, record: Record) -> Record:
        """Return ``record`` with its value, fetched and verified; as it is when nothing is claimed.

        Raises:
            RecordError: The claim is no proper one, its object is missing or is not what it must
                be, or the store has been away for longer than the patience.
            ObjectStoreUnavailableError: The store is away, and there is no patience.
        """
        if CLAIM_HEADER not in record.headers:
            return record
        claim = Claim.from_headers(record.headers, prefix=self._prefix)
        if record.value:
            raise RecordError(
                DeadLetterReason.HEADERS,
                f"a record must have a value or a {CLAIM_HEADER}, got {len(record.value)} bytes "
                "beside it; send one of them",
            )
        return dataclasses.replace(record, value=self._content(claim))

    def _content(self, claim: Claim) -> bytes:
        content = self._fetch(claim)
        began_ns = self._clock.monotonic_ns()
        if content is None and not self._missing_rest.is_on(began_ns):
            for pause_s in self._missing_pauses_s:
                self._wait(pause_s)
                content = self._fetch(claim)
                if content is not None:
                    break
            else:
                self._missing_rest.begin(began_ns, self._clock.monotonic_ns())
        if content is None:
            raise RecordError(
                DeadLetterReason.CLAIM_MISSING,
                f"the object {claim.key} must be in the store before its record is published, but "
                "it is not there; look at the sender and at the store's retention, then replay "
                "this dead letter",
            )
        return _verified(content, claim)

    def _fetch(self, claim: Claim) -> bytes | None:
        """Return the object; None when it is missing. Waits for a store that is away."""
        tries = 0
        while True:
            began_ns = self._clock.monotonic_ns()
            if self._is_given_up(began_ns) and self._store_rest.is_on(began_ns):
                raise _unavailable(claim, "a try a moment ago failed")
            try:
                content = self._store.get(claim.key, max_bytes=claim.length)
            except ObjectTooLargeError as too_large:
                self._away_since_ns = None
                raise _mismatch(claim, str(too_large)) from too_large
            except ObjectStoreUnavailableError as away:
                if self._patience_s is None:
                    raise
                failed_ns = self._clock.monotonic_ns()
                if self._is_given_up(failed_ns):
                    self._store_rest.begin(began_ns, failed_ns)
                    raise _unavailable(claim, str(away)) from away
                if self._away_since_ns is None:
                    self._away_since_ns = began_ns
                self._wait(AWAY_PAUSES_S[min(tries, len(AWAY_PAUSES_S) - 1)])
                tries += 1
            else:
                self._away_since_ns = None
                return content

    def _is_given_up(self, now_ns: int) -> bool:
        """Whether the store has been away for longer than the patience."""
        if self._away_since_ns is None or self._patience_s is None:
            return False
        return now_ns - self._away_since_ns >= self._patience_s * NANOSECONDS


class _Rest:
    """The time after a vain wait in which there must be no other."""

    def __init__(self) -> None:
        self._since_ns = 0
        self._length_ns = 0

    def begin(self, waited_from_ns: int, now_ns: int) -> None:
        """Rest for a multiple of what was waited."""
        self._since_ns = now_ns
        self._length_ns = round((now_ns - waited_from_ns) * (1 / MAX_WAITING_SHARE - 1))

    def is_on(self, now_ns: int) -> bool:
        """Whether the rest lasts."""
        return now_ns - self._since_ns < self._length_ns


def _verified(content: bytes, claim: Claim) -> bytes:
    if len(content) != claim.length:
        raise _mismatch(claim, f"it has {len(content)} bytes")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != claim.sha256:
        raise _mismatch(claim, f"its SHA-256 is {sha256}")
    return content


def _mismatch(claim: Claim, came: str) -> RecordError:
    return RecordError(
        DeadLetterReason.CLAIM_MISMATCH,
        f"the object {claim.key} must have {claim.length} bytes and the SHA-256 of its name, "
        f"but {came}; somebody changed it, or the sender is wrong: send the record again",
    )


def _unavailable(claim: Claim, why: str) -> RecordError:
    return RecordError(
        DeadLetterReason.CLAIM_UNAVAILABLE,
        f"the object {claim.key} must be fetched, but the store has been away for too long: {why}; "
        "mend the store, then replay this dead letter",
    )
