"""Records in and out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from fusion.schema import Lost, Message, Record, TopicPartition


class Source(Protocol):
    """Reads records of some topics, in order per partition.

    Not to be shared between threads.
    """

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records, at most one fetch; an empty list when none came in time.

        Raises:
            BrokerUnavailableError: The broker did not answer.
            FencedError: Another process took this member's place in the group.
            InputError: A log ends before the position; its topic was made anew.
        """
        ...

    def assigned(self) -> dict[TopicPartition, int]:
        """Return the partitions that this source reads now, each with a stamp.

        A stamp changes when a partition was taken away and given back, however short the time in
        between: what was known of it must then be read anew. So it does when its topic was deleted
        and made anew. Changes only inside ``poll`` and ``keep_alive``.
        """
        ...

    def has_joined(self) -> bool:
        """Return whether it is settled which partitions this source reads, though it be none.

        Changes only inside ``poll`` and ``keep_alive``.
        """
        ...

    def keep_alive(self) -> None:
        """Stay a member of the group while the records of the last poll are being worked on.

        Reads nothing: no position of a partition that stays assigned moves.
        """
        ...

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Give no records of ``partitions`` from now on, and again those of all others."""
        ...

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset of the next record that ``poll`` would give, per partition."""
        ...

    def committed(
        self, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """Return the committed offset of this group, per partition; absent where none is.

        Of ``partitions``, or of all that are assigned. It waits for a transaction that is about to
        commit one of them: ask only for those whose former writers are shut out.
        """
        ...

    def start_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the oldest record that the broker still has, per partition."""
        ...

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset that the next published record will get, per partition."""
        ...

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``; other partitions stay where they are."""
        ...

    def take_lost(self) -> list[Lost]:
        """Return what was skipped since the last call: deleted before ``poll`` came to it.

        Nothing of what :meth:`seek` has gone back to since: it will be met again. A group that
        never read begins at the oldest record and loses nothing.
        """
        ...

    def close(self) -> None:
        """Leave the group and free everything. Commits nothing."""
        ...


class Publisher(Protocol):
    """Writes messages. When a call returns, the messages are durable."""

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store ``messages`` and, with them or not at all, the group's ``commit`` positions.

        Raises:
            BrokerUnavailableError: Not known to be stored. A writer without ``commit`` calls again
                (readers drop repeats by epoch and number); one with ``commit`` opens a new
                publisher, which ends what this one had begun, and goes on from what is committed.
            FencedError: Another process took over as the writer; nothing was stored.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...
