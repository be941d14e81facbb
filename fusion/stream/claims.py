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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fusion.errors import (
    DeadLetterReason,
    InputError,
    RecordError,
)
from fusion.ports import Clock, ObjectStore, Publisher
from fusion.schema import CLAIM_HEADER, MAX_CLAIMED_BYTES, Message, TopicPartition

CLAIM_THRESHOLD_BYTES = 1_000_000
"""Larger values are claimed. Brokers take records of this size without special settings."""


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


def _key_pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(re.escape(prefix) + r"/[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9a-f]{64}")


def _day(t_ns: int) -> str:
    return str(np.datetime64(t_ns, "ns").astype("datetime64[D]"))
