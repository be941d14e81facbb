"""Large records by claim check: the value lies in an object store, the record says where.

A message whose value is larger than a threshold is published with an empty value and the headers
``ce_dataref`` (CloudEvents' extension of that name, "Claim Check Pattern"), ``sha256`` and
``length``. The object's content *is* the record's value, whatever its modality. Its key names its
content, ``<prefix>/<yyyy-mm-dd>/<sha256>``, and never leads out of the configured store: a hostile
sender can make a reader fetch nothing but an object that is what its name says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fusion.errors import (
    DeadLetterReason,
    InputError,
    ObjectStoreUnavailableError,
    ObjectTooLargeError,
    RecordError,
)
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, ObjectStore, Publisher
from fusion.schema import CLAIM_HEADER, MAX_CLAIMED_BYTES, Message, Record, TopicPartition

CLAIM_THRESHOLD_BYTES = 1_000_000
"""Larger values are claimed. Brokers take records of this size without special settings."""
PATIENCE_S = 30.0
"""How long a store that is away holds up a plant, once, before its records are refused."""
MISSING_PAUSES_S = (0.1, 0.3, 1.0)
"""An object may become visible a moment after its reference: pauses before it counts as missing."""
AWAY_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between tries while the store is away; the last one repeats."""
MAX_WAITING_SHARE = 0.1
"""Of the time that may go into waiting in vain, so that everything else goes on."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a value lies, and what it must be."""

    key: str
    sha256: str
    length: int

    @classmethod
    def of(cls, content: bytes, *, prefix: str, now_ns: int) -> Self:
        """Return the claim of ``content``, stored on the day of ``now_ns`` (UTC).

        Example:
            >>> Claim.of(b"frame", prefix="rig", now_ns=1_767_225_600_000_000_000).key[:21]
            'rig/2026-01-01/9dff50'
        """
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(f"{prefix}/{_day(now_ns)}/{sha256}", sha256, len(content))

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], *, prefix: str) -> Self:
        """Return the claim that ``headers`` carry.

        Raises:
            RecordError: It could lead anywhere but to an object of ``prefix``, or it is incomplete
                or too large.
        """
        key, sha256 = headers[CLAIM_HEADER], headers.get("sha256", "")
        if not _key_pattern(prefix).fullmatch(key) or key.rpartition("/")[2] != sha256:
            raise RecordError(
                DeadLetterReason.HEADERS,
                f"{CLAIM_HEADER} must be {prefix}/<yyyy-mm-dd>/<sha256> with the header 'sha256', "
                f"got {key[:200]!r} with {sha256[:80]!r}; publish with ClaimCheckPublisher",
            )
        length = headers.get("length", "")
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise RecordError(
                DeadLetterReason.HEADERS,
                f"a claimed record must say its bytes in the header 'length', got {length[:80]!r}; "
                "publish with ClaimCheckPublisher",
            )
        if int(length) > MAX_CLAIMED_BYTES:
            raise RecordError(
                DeadLetterReason.TOO_LARGE,
                f"a claimed record must not have more than {MAX_CLAIMED_BYTES} bytes, "
                f"got {length}; send smaller batches or smaller frames",
            )
        return cls(key, sha256, int(length))

    def to_headers(self) -> dict[str, str]:
        """Return the headers that carry this claim."""
        return {CLAIM_HEADER: self.key, "sha256": self.sha256, "length": str(self.length)}


class ClaimCheckPublisher:
    """Implements :class:`fusion.ports.Publisher` around another one: large values are claimed.

    A value is stored before its reference is published, so a reference that is on the broker always
    leads somewhere. A publish that fails leaves an object that nobody refers to; publishing again
    on the same day meets it, and ``fusion objects sweep`` removes what stays.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: ObjectStore,
        *,
        clock: Clock,
        threshold_bytes: int = CLAIM_THRESHOLD_BYTES,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._clock = clock
        self._threshold_bytes = threshold_bytes

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store the large values of ``messages``, then publish all of them.

        Raises:
            InputError: A value is too large even for a claim; nothing was stored.
            ObjectStoreUnavailableError, BrokerUnavailableError: Nothing of this call is visible to
                readers; call it again.
        """
        for message in messages:
            if len(message.value) > MAX_CLAIMED_BYTES:
                raise InputError(
                    f"a record must not have more than {MAX_CLAIMED_BYTES} bytes, got "
                    f"{len(message.value)} for {message.topic!r}; send smaller batches or frames"
                )
        self._publisher.publish([self._claimed(message) for message in messages], commit=commit)

    def close(self) -> None:
        """Close the inner publisher."""
        self._publisher.close()

    def _claimed(self, message: Message) -> Message:
        if len(message.value) <= self._threshold_bytes:
            return message
        prefix = message.topic.partition(".")[0]
        claim = Claim.of(message.value, prefix=prefix, now_ns=self._clock.now_ns())
        self._store.put(claim.key, message.value)
        headers = {**message.headers, **claim.to_headers()}
        return dataclasses.replace(message, value=b"", headers=headers)


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


def last_put_ns(key: str, *, prefix: str) -> int | None:
    """Return the end of the day in ``key``, after which no sender stores it again.

    None when it is no key of a claim of ``prefix``.

    Example:
        >>> last_put_ns("rig/1970-01-01/" + 64 * "0", prefix="rig") == 24 * 3600 * 10**9
        True
        >>> last_put_ns("rig/notes.txt", prefix="rig") is None
        True
    """
    if not _key_pattern(prefix).fullmatch(key):
        return None
    try:
        day = np.datetime64(key.split("/")[1], "D")
    except ValueError:
        return None
    return int((day + 1).astype("datetime64[ns]").astype(np.int64))


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


def _key_pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(re.escape(prefix) + r"/[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9a-f]{64}")


def _day(t_ns: int) -> str:
    return str(np.datetime64(t_ns, "ns").astype("datetime64[D]"))
