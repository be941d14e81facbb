"""A process that copies a numbered log into a lake, batch by batch, until it is killed or done.

Run by test_lake_contract.py and test_lake_crashes.py. It goes on from ``next_offsets`` like the
product's ingest does, also when another writer was faster, and says ``appending`` on standard
output before each append, so that its killer can aim.
"""

from __future__ import annotations

import sys

from connectors.delta_lake import DeltaLake
from fusion.errors import LakeUnavailableError
from fusion.schema import Record, TopicPartition

TOPICS = ("rig.telemetry", "rig.audio")
NUM_PARTITIONS = 2
NUM_OFFSETS = 60
BATCH = 7


def main(uri: str, num_offsets: int = NUM_OFFSETS) -> None:
    """Append every record of the log that the lake at ``uri`` lacks."""
    lake = DeltaLake(uri)
    position = _position(lake)
    while any(offset < num_offsets for offset in position.values()):
        records: list[Record] = []
        for part, start in position.items():
            stop = min(start + BATCH, num_offsets)
            records += [_record(part, offset) for offset in range(start, stop)]
            position[part] = stop
        sys.stdout.write("appending\n")
        sys.stdout.flush()
        try:
            lake.append(records)
        except LakeUnavailableError:
            position = _position(lake)


def _position(lake: DeltaLake) -> dict[TopicPartition, int]:
    starts = lake.next_offsets()
    parts = [TopicPartition(topic, p) for topic in TOPICS for p in range(NUM_PARTITIONS)]
    return {part: starts.get(part, 0) for part in parts}


def _record(part: TopicPartition, offset: int) -> Record:
    value = f"{part.topic}/{part.partition}/{offset}".encode()
    return Record(part.topic, part.partition, offset, "plant", value, {"seq": str(offset)}, offset)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
