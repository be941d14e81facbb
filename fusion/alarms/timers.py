"""What of an alarm ends or comes back by time alone: shelves, being out of service, re-alarms."""

from __future__ import annotations

import heapq

from fusion.alarms.board import Board
from fusion.plant import NANOSECONDS
from fusion.schema import AlarmState


class Timers:
    """When to look at which alarm again. What has changed by then is ignored then."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._heap: list[tuple[int, int]] = []
        board.on_put.append(self.set)

    def set(self, at: int, state: AlarmState) -> None:
        """Remember when something of an alarm ends."""
        for override in state.overrides:
            if override.until_ns is not None:
                heapq.heappush(self._heap, (override.until_ns, at))
        if (due_ns := self._re_alarm_ns(at)) is not None:
            heapq.heappush(self._heap, (due_ns, at))
        if len(self._heap) > 8 * len(self._board.states) + 1_000:
            self._heap = sorted(set(self._heap))  # (a sorted list is a heap)

    def reset(self) -> None:
        """Begin anew with the states of now."""
        self._heap = []
        for at, state in enumerate(self._board.states):
            self.set(at, state)

    def pass_time(self, t_ns: int, stamp: int | str) -> None:
        """End what ends at ``t_ns`` or before."""
        while self._heap and self._heap[0][0] <= t_ns:
            _, at = heapq.heappop(self._heap)
            self._end(at, t_ns, stamp)

    def _end(self, at: int, t_ns: int, stamp: int | str) -> None:
        board = self._board
        for override in board.states[at].overrides:
            if override.until_ns is not None and override.until_ns <= t_ns:
                transition = "unshelved" if override.kind == "shelved" else "in-service"
                board.uncover(at, override.kind, transition, t_ns, stamp, "its time is over")
        due_ns = self._re_alarm_ns(at)
        if due_ns is not None and due_ns <= t_ns and not board.states[at].is_hidden:
            note = "it still stands"
            board.say(at, {"is_acknowledged": False}, "re-alarmed", t_ns, stamp, note=note)

    def _re_alarm_ns(self, at: int) -> int | None:
        """Return when an answered alarm that still stands must be answered again."""
        state, re_alarm_s = self._board.states[at], self._board.config(at).re_alarm_s
        is_answered = state.is_acknowledged and state.condition.is_standing
        if re_alarm_s is None or not is_answered or state.acknowledged_ns is None:
            return None
        return state.acknowledged_ns + round(re_alarm_s * NANOSECONDS)
