"""A store that can be away, records with claims on it, and what a resolver refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.object_store import LocalObjectStore
from fusion.errors import DeadLetterReason, ObjectStoreUnavailableError, RecordError
from fusion.schema import CLAIM_HEADER, Record
from fusion.stream.claim_resolver import ClaimResolver
from fusion.stream.claims import Claim
from tests.clocks import START_NS, HandClock


class Clock(HandClock):
    """A clock that lets something happen while somebody waits."""

    def __init__(self) -> None:
        super().__init__(START_NS)
        self.meanwhile: Callable[[], object] = lambda: None

    def sleep(self, duration_s: float) -> None:
        super().sleep(duration_s)
        self.meanwhile()


class Store(LocalObjectStore):
    """A folder that can be away: at once, or only after a while."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock
        self.is_away = False
        self.hangs_s = 0.0
        self.num_tries = 0

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        self.num_tries += 1
        if self.is_away:
            self.clock.pass_s(self.hangs_s)
            raise ObjectStoreUnavailableError("the store is away")
        return super().get(key, max_bytes=max_bytes)


def claimed(content: bytes, **changed: str) -> Record:
    headers = Claim.of(content, prefix="rig", now_ns=START_NS).to_headers() | {"name": "Ü"}
    return Record("rig.video", 0, 7, "key", b"", headers | changed, START_NS)


def stored(content: bytes, store: Store) -> Record:
    record = claimed(content)
    store.put(record.headers[CLAIM_HEADER], content)
    return record


def refused(resolver: ClaimResolver, record: Record) -> DeadLetterReason:
    with pytest.raises(RecordError) as caught:
        resolver.resolve(record)
    return caught.value.reason
