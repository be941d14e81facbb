"""One ingest of the campaign: a process that copies a run's topics into a lake until all is in."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka_io import source as kafka_source
from flows import wiring
from flows.ingest import ingest_once
from flows.settings import Settings
from fusion.errors import LakeUnavailableError

MAX_POLL_RECORDS = 20
RECORDS_PER_BATCH = 40
PAUSE_S = 0.1
REFUSED, STORED = "refused", "stored"


@dataclass(frozen=True)
class IngestOrders:
    """What one ingest copies, and where it says what came of each micro-batch."""

    settings: Settings
    topics: Sequence[str]
    said: Path


def ingest(orders: IngestOrders) -> None:
    """Copy until the lake holds what the broker holds, again after every refusal of the lake."""
    kafka_source.MAX_POLL_RECORDS = MAX_POLL_RECORDS
    lake, clock = wiring.open_lake(orders.settings), wiring.open_clock()
    source = wiring.open_source(orders.settings, tuple(orders.topics), "ingest")
    with contextlib.closing(source), orders.said.open("a", encoding="utf-8") as said:
        is_complete = False
        while not is_complete:
            try:
                report = ingest_once(source, lake, max_records=RECORDS_PER_BATCH, clock=clock)
                is_complete = report.is_complete
                said.write(f"{STORED}\n")
            except LakeUnavailableError as refused:
                said.write(f"{REFUSED} {' '.join(str(refused).split())}\n")
                time.sleep(PAUSE_S)
            said.flush()
    # Threads of the lake's library would hold up an ordinary exit.
    sys.stdout.flush()
    os._exit(0)
