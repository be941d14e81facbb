"""Goes on where a partition's log still is, and remembers what was deleted before it was read.

kafka-python can do so by itself (``auto_offset_reset``), and then says nothing: what retention has
deleted while nobody read would be missing from every account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kafka.errors import (
    LogTruncationError,  # pyright: ignore[reportAttributeAccessIssue] the stubs are older
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from fusion.errors import InputError
from fusion.schema import Lost, TopicPartition

_Answer = TypeVar("_Answer")


class Following:
    """Answers for one consumer, which must have ``auto_offset_reset="none"``."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._lost: list[Lost] = []

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Return the answer to ``question``, asked again after each position that had to be mended.

        Raises:
            InputError: A log ends before the position at which reading must go on.
        """
        while True:
            try:
                return question()
            except NoOffsetForPartitionError as new:
                # A group that has never read begins at the oldest record: nothing of it is lost.
                self._consumer.seek_to_beginning(*new.args[0])
            except OffsetOutOfRangeError as outside:
                for part, offset in outside.args[0].items():
                    self._go_on(part, offset)
            except LogTruncationError as cut:
                for part, end in cut.divergent_offsets.items():
                    offset = self._consumer.position(part)
                    if end is not None:
                        raise _cut_off(part, offset, end.offset) from cut
                    self._go_on(part, offset)

    def forget(self, positions: Mapping[TopicPartition, int]) -> None:
        """Forget what was lost from ``positions`` on: reading goes back, and will meet it again."""
        self._lost = [
            each
            for each in self._lost
            if each.partition not in positions or each.start < positions[each.partition]
        ]

    def take_lost(self) -> list[Lost]:
        """Return what was lost since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def _go_on(self, part: Any, offset: int) -> None:
        start = self._consumer.beginning_offsets([part])[part]
        end = self._consumer.end_offsets([part])[part]
        if offset > end:
            raise _cut_off(part, offset, end)
        if offset < start:
            self._lost.append(Lost(TopicPartition(part.topic, part.partition), offset, start))
        self._consumer.seek(part, max(offset, start))


def _cut_off(part: Any, offset: int, end: int) -> InputError:
    return InputError(
        f"reading must go on at offset {offset} of {part.topic}/{part.partition}, but its log ends "
        f"at {end}: the topic was made anew, or the brokers have lost its newest records; nobody "
        "can tell which of the records there were read, so give the plant file another prefix, or "
        "restore the topic"
    )
