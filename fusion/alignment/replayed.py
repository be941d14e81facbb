"""What was already said of records that are read again after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fusion.schema import Record, TopicPartition


@dataclass(slots=True)
class Replayed:
    """How records below the former reader's end were judged, so that they are judged alike."""

    _up_to: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    _floors: dict[TopicPartition, dict[int, int]] = field(
        default_factory=dict[TopicPartition, dict[int, int]]
    )
    _refused: dict[TopicPartition, set[int]] = field(default_factory=dict[TopicPartition, set[int]])

    def restore(self, partition: TopicPartition, part: dict[str, Any]) -> None:
        """Remember what the snapshot of a partition says."""
        self._up_to[partition] = part["read_up_to"]
        self._floors[partition] = dict(part["floors"])
        self._refused[partition] = set(part["refused"])

    def holds(self, record: Record) -> bool:
        """Whether ``record`` was read before the restart."""
        return bool(self._up_to) and record.offset < self._up_to.get(record.topic_partition, 0)

    def floor(self, record: Record) -> int | None:
        """Return the closed frontier that ``record`` met then; None where it met none."""
        return self._floors.get(record.topic_partition, {}).get(record.offset)

    def was_refused(self, record: Record) -> bool:
        """Whether the dead letter of ``record`` is published already."""
        refused = self._refused and self._refused.get(record.topic_partition)
        return bool(refused) and record.offset in refused

    def completed(self, partition: TopicPartition, part: dict[str, Any]) -> dict[str, Any]:
        """Return the snapshot ``part`` with what is known of records that are still to be read.

        A process may be killed again before it has read as far as the one before it.
        """
        read_up_to: int = part["read_up_to"]
        up_to = self._up_to.get(partition, 0)
        if read_up_to >= up_to:
            return part
        floors = [list(each) for each in self._floors[partition].items() if each[0] >= read_up_to]
        refused = [offset for offset in self._refused[partition] if offset >= read_up_to]
        return part | {
            "read_up_to": up_to,
            "floors": part["floors"] + sorted(floors),
            "refused": part["refused"] + sorted(refused),
        }
