"""Which member of a group reads which partitions: equal numbers of all topics stay together.

A plant's records lie in the partition of the same number in every topic, so one member must have
that number of all of them. The balance and the stickiness are the library's own cooperative
assignor (KIP-429); it is asked about one topic, and the others follow.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment


class CoPartitionedAssignor(CooperativeStickyAssignor):
    """Gives each member whole numbers: partition 3 of telemetry with partition 3 of audio."""

    name = "fusion-co-partitioned"

    @classmethod
    def parse_member_metadata(cls, metadata: Any) -> Any:
        """Return what a member said, about the leading topic only."""
        leading = min(metadata.topics)
        parsed = super().parse_member_metadata(metadata)
        return parsed._replace(
            partitions=[part for part in parsed.partitions if part.topic == leading],
            subscription=[leading],
        )

    def assign(self, cluster: Any, members: Any) -> dict[str, Any]:
        """Return the assignment of every member, for all topics alike."""
        members = list(members)
        topics = {member.member_id: sorted(member.metadata.topics) for member in members}
        assigned: dict[str, Any] = {}
        for member_id, plan in super().assign(cluster, members).items():
            numbers = [number for part in plan.assigned_partitions for number in part[1]]
            assigned[member_id] = ConsumerProtocolAssignment(
                self.version, [(topic, numbers) for topic in topics[member_id] if numbers], b""
            )
        return assigned
