"""Which sequence numbers of a stream were seen, in little memory."""

from __future__ import annotations

from bisect import bisect_right

MAX_INTERVALS = 256
MAX_EPOCHS = 8


class SeenSequence:
    """The numbers seen in each epoch, as runs without a gap.

    Memory is bounded: of more than 256 runs (that many gaps) or 8 epochs the oldest is forgotten;
    a repeat that old is late anyway.

    Example:
        >>> seen = SeenSequence()
        >>> [seen.add("boot-1", seq) for seq in (0, 1, 3, 1, 2, 3)]
        [True, True, True, False, True, False]
    """

    def __init__(self, snapshot: dict[str, list[list[int]]] | None = None) -> None:
        self._runs: dict[str, list[list[int]]] = {
            epoch: [list(run) for run in runs] for epoch, runs in (snapshot or {}).items()
        }

    def add(self, epoch: str, seq: int) -> bool:
        """Return whether ``seq`` is new in ``epoch``, and remember it."""
        runs = self._runs.get(epoch)
        if runs is None:
            runs = self._runs[epoch] = []
        elif runs[-1][1] == seq - 1:  # (in order, as nearly always)
            runs[-1][1] = seq
            return True
        while len(self._runs) > MAX_EPOCHS:
            del self._runs[next(iter(self._runs))]
        at = bisect_right(runs, seq, key=lambda run: run[0])
        if at and seq <= runs[at - 1][1]:
            return False
        joins_left = at > 0 and runs[at - 1][1] == seq - 1
        joins_right = at < len(runs) and runs[at][0] == seq + 1
        if joins_left and joins_right:
            runs[at - 1][1] = runs[at][1]
            del runs[at]
        elif joins_left:
            runs[at - 1][1] = seq
        elif joins_right:
            runs[at][0] = seq
        else:
            runs.insert(at, [seq, seq])
            if len(runs) > MAX_INTERVALS:
                del runs[0]
        return True

    def snapshot(self) -> dict[str, list[list[int]]]:
        """Return what a restart needs, for JSON."""
        return {epoch: [list(run) for run in runs] for epoch, runs in self._runs.items()}
