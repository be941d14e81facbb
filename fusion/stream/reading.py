"""Bounded reading: everything that a topic holds now."""

from __future__ import annotations

from collections.abc import Iterator

from fusion.errors import BrokerUnavailableError
from fusion.ports import Source
from fusion.schema import Record

POLL_TIMEOUT_S = 0.5
PATIENCE_S = 30.0


def read_to_end(source: Source, *, patience_s: float = PATIENCE_S) -> Iterator[Record]:
    """Yield every record from the source's position up to the end that the broker has now.

    Raises:
        BrokerUnavailableError: Nothing came for about ``patience_s``, and the end is not reached.
    """
    ends = source.end_offsets()
    before, num_vain = source.positions(), 0
    while left := {part: end for part, end in ends.items() if before.get(part, 0) < end}:
        for record in source.poll(timeout_s=POLL_TIMEOUT_S):
            if record.offset < ends[record.topic_partition]:
                yield record
        positions = source.positions()
        num_vain = num_vain + 1 if positions == before else 0
        before = positions
        if num_vain * POLL_TIMEOUT_S >= patience_s:
            missing = ", ".join(
                f"{part.topic}/{part.partition} (at {positions.get(part, 0)} of {end})"
                for part, end in sorted(left.items())
            )
            raise BrokerUnavailableError(
                f"the broker must give everything up to its end, but for {patience_s:g} s nothing "
                f"came of {missing}; check that the leaders of these partitions run, then try again"
            )
