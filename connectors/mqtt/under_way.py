"""What was given out and is not acknowledged yet, and whether the broker waits for that."""

from __future__ import annotations

EARLY_IN_A_ROW = 16
"""Then the limit is tried anew: the messages may only have come one by one."""


class UnderWay:
    """Messages that the broker keeps for us; it gives no more than its own limit of them.

    Nobody tells that limit. It shows when nothing comes for the whole of a read while some are
    under way; a message more than it refutes it. So where a sensor is slow, not the broker, it
    costs a few acknowledgements that are early, not one for each message for ever.

    Example:
        >>> under_way = UnderWay()
        >>> for number in (1, 2):
        ...     under_way.add(number)
        >>> under_way.note_silence()  # Two are under way, and nothing comes any more.
        >>> under_way.settle(), under_way.is_full
        ([1, 2], False)
        >>> for number in (3, 4):
        ...     under_way.add(number)
        >>> under_way.is_full
        True
        >>> under_way.add(5)
        >>> under_way.is_full
        False
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._limit: int | None = None
        self._num_early = 0

    @property
    def is_full(self) -> bool:
        """Whether the broker seems to wait: as many are under way as it ever gave."""
        is_at_limit = self._limit is not None and len(self._numbers) >= self._limit
        return is_at_limit and self._num_early < EARLY_IN_A_ROW

    def add(self, number: int) -> None:
        """Note a message that was given out."""
        self._numbers.append(number)
        if self._limit is not None and len(self._numbers) > self._limit:
            self._limit, self._num_early = None, 0

    def note_silence(self) -> None:
        """Note that nothing came for as long as somebody listened."""
        if self._numbers:
            self._limit, self._num_early = len(self._numbers), 0

    def settle(self) -> list[int]:
        """Return what is to be acknowledged now, in the order in which it came."""
        self._num_early += self.is_full
        numbers, self._numbers = self._numbers, []
        return numbers
