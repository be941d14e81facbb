"""Records of a past moment, read from the broker itself: it keeps them for days.

A topic is in about the order of event time, so the place is found by halving.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fusion.errors import BrokerUnavailableError
from fusion.plant import NANOSECONDS
from fusion.ports import Source
from fusion.schema import Record, TopicPartition

LEAD_S = 5.0
"""Read before and after what is asked for: streams are late, and not quite in order."""
POLL_TIMEOUT_S = 0.5
PATIENCE_POLLS = 20
MAX_RECORDS = 50_000


def records_between(
    open_source: Callable[[Sequence[str]], Source],
    topics: Sequence[str],
    *,
    start_ns: int,
    stop_ns: int,
    key: str,
) -> list[Record]:
    """Return the records with ``key`` whose event time lies between, and some around them.

    Per topic in the order of the broker, and all in the order in which the broker got them.

    Raises:
        BrokerUnavailableError: The broker gave nothing although it has more.
    """
    lead_ns = round(LEAD_S * NANOSECONDS)
    found: list[Record] = []
    for topic in topics:
        with contextlib.closing(open_source([topic])) as source:
            starts, ends = source.start_offsets(), source.end_offsets()
            for part, end in ends.items():
                source.hold([other for other in ends if other != part])
                first = _first_at(source, part, starts.get(part, 0), end, start_ns - lead_ns)
                for record in _from(source, part, first, end):
                    t_ns = event_ns(record)
                    if t_ns is not None and t_ns > stop_ns + lead_ns:
                        break
                    if record.key == key and t_ns is not None:
                        found.append(record)
                    if len(found) >= MAX_RECORDS:
                        break
    return sorted(found, key=lambda record: record.t_broker_ns)


def newest_record(source: Source, *, subject: str, most: int = 50) -> Record | None:
    """Return the newest record of the stream ``subject`` among the last of each partition."""
    starts, newest = source.start_offsets(), None
    for part, end in source.end_offsets().items():
        for record in _from(source, part, max(starts.get(part, 0), end - most), end):
            if record.headers.get("ce_subject") == subject and (
                newest is None or record.t_broker_ns >= newest.t_broker_ns
            ):
                newest = record
    return newest


def event_ns(record: Record) -> int | None:
    """Return the event time in the envelope; None where none can be read."""
    try:
        stamp = np.datetime64(record.headers["ce_time"].removesuffix("Z"), "ns")
    except (KeyError, ValueError):
        return None
    return int(stamp.astype(np.int64))


def _first_at(source: Source, part: TopicPartition, low: int, high: int, t_ns: int) -> int:
    """Return about the first offset whose event time is ``t_ns`` or later."""
    while high - low > 8:
        middle = (low + high) // 2
        record = next(_from(source, part, middle, high), None)
        seen_ns = None if record is None else event_ns(record)
        if seen_ns is not None and seen_ns < t_ns:
            low = middle
        else:
            high = middle
    return low


def _from(source: Source, part: TopicPartition, start: int, end: int) -> Iterator[Record]:
    """Yield the records of ``part`` from offset ``start`` up to ``end``."""
    source.seek({part: start})
    num_vain = 0
    while source.positions().get(part, start) < end:
        records = source.poll(timeout_s=POLL_TIMEOUT_S)
        num_vain = 0 if records else num_vain + 1
        if num_vain >= PATIENCE_POLLS:
            raise BrokerUnavailableError(
                f"the broker must give {part.topic}/{part.partition} up to offset {end}, but for "
                f"{num_vain * POLL_TIMEOUT_S:g} s nothing came; check that it runs, then try again"
            )
        for record in records:
            if record.topic_partition == part and record.offset < end:
                yield record
