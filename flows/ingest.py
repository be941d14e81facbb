"""Copies what the broker holds into the lake, one bounded, idempotent micro-batch at a time.

The lake knows how far it is, per partition, in the same commit as the data; the consumer group's
offsets play no part. A run may die anywhere, be repeated or run twice at once, and the lake still
holds every record once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, Lake, Source
from fusion.schema import Lost, Record, TopicPartition

LOG = logging.getLogger(__name__)
APPEND_BYTES = 64 * 1024 * 1024
"""Held in memory before one append. Larger appends make fewer, larger files."""
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one micro-batch did; mappings are per topic."""

    num_read: Mapping[str, int]
    num_stored: int
    """Smaller than what was read when another ingest stored some of it first."""
    num_offsets_skipped: Mapping[str, int]
    """Offsets that the broker did not give: its own markers, records deleted before we came."""
    num_left: Mapping[str, int]
    """Offsets between the end of the batch and the end that the broker had when it began."""
    lost: tuple[Lost, ...] = ()
    """Records that were deleted since the lake was fed last; their offsets are in the skipped."""

    @property
    def is_complete(self) -> bool:
        """Whether everything that the broker held at the start is in the lake."""
        return not any(self.num_left.values())


def ingest_once(
    source: Source,
    lake: Lake,
    *,
    max_records: int = 100_000,
    max_seconds: float = 60.0,
    clock: Clock,
) -> IngestReport:
    """Store what the broker holds now beyond what the lake holds, and return what was done.

    Stops at the end offsets seen at the start, after about ``max_records`` records (it finishes the
    fetch), or after ``max_seconds``.

    Raises:
        InputError: A topic ends before what the lake holds of it.
        BrokerUnavailableError, LakeUnavailableError: What was appended before stays; call again,
            with this source or another.
    """
    if max_records < 1 or max_seconds <= 0:
        raise InputError(
            f"max_records and max_seconds must be above 0, got {max_records} and {max_seconds:g}"
        )
    deadline_ns = clock.monotonic_ns() + round(max_seconds * NANOSECONDS)
    ends = source.end_offsets()
    source.seek({part: at for part, at in lake.next_offsets().items() if part in ends})
    starts = source.positions()
    _require_onward(starts, ends)
    num_read: Counter[str] = Counter()
    num_stored, waiting, waiting_bytes = 0, list[Record](), 0
    try:
        while (
            any(_left(ends, source.positions()).values())
            and num_read.total() < max_records
            and clock.monotonic_ns() < deadline_ns
        ):
            records = source.poll(timeout_s=POLL_S)
            num_read.update(record.topic for record in records)
            waiting += records
            waiting_bytes += sum(len(record.value) for record in records)
            if waiting_bytes >= APPEND_BYTES:
                num_stored += lake.append(waiting)
                waiting, waiting_bytes = [], 0
        num_stored += lake.append(waiting)
    except BaseException:
        # The lake does not name a partition of which it has nothing yet, so that nobody would seek
        # back to the records of it that were read and not stored.
        for lost in source.take_lost():  # (the next call begins behind them)
            LOG.warning("%s", lost)
        source.seek(starts)
        raise
    stops = source.positions()
    num_offsets = _per_topic({part: stops[part] - starts[part] for part in ends})
    return IngestReport(
        num_read={topic: num_read[topic] for topic in num_offsets},
        num_stored=num_stored,
        num_offsets_skipped={topic: num - num_read[topic] for topic, num in num_offsets.items()},
        num_left=_per_topic(_left(ends, stops)),
        lost=tuple(source.take_lost()),
    )


def left_to_ingest(source: Source, lake: Lake) -> dict[str, int]:
    """Return, per topic, how many offsets the broker has that the lake has not come to.

    Raises:
        BrokerUnavailableError, LakeUnavailableError: One of them is away.
    """
    starts, stored = source.start_offsets(), lake.next_offsets()
    ends = source.end_offsets()
    return _per_topic(_left(ends, {part: max(starts[part], stored.get(part, 0)) for part in ends}))


def _require_onward(
    starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> None:
    for part, at in starts.items():
        if ends[part] < at:
            raise InputError(
                f"partition {part.partition} of {part.topic!r} must not end before offset {at}, "
                f"up to which the lake holds it, but ends at {ends[part]}: the topic was deleted "
                "and made anew, or its brokers have lost its end; take another lake "
                "(FUSION_DATA_DIR) or another prefix in the plant file, so that nothing is mixed up"
            )


def _left(
    ends: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    return {part: max(0, end - positions[part]) for part, end in ends.items()}


def _per_topic(counts: Mapping[TopicPartition, int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for part, count in counts.items():
        totals[part.topic] = totals.get(part.topic, 0) + count
    return totals
