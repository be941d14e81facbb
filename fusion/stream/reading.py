"""Bounded reading: everything that a topic holds now."""

from __future__ import annotations

from collections.abc import Iterator

from fusion.ports import Source
from fusion.schema import Record

POLL_TIMEOUT_S = 0.5


def read_to_end(source: Source) -> Iterator[Record]:
    """Yield every record from the source's position up to the end that the broker has now."""
    ends = source.end_offsets()
    while any(source.positions().get(part, 0) < end for part, end in ends.items()):
        for record in source.poll(timeout_s=POLL_TIMEOUT_S):
            if record.offset < ends[record.topic_partition]:
                yield record
