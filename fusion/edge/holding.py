"""What a device that tells changes only has not changed: it still holds, and is said again.

OPC UA subscriptions and Sparkplug B report by exception. A set-point that nobody moves for an hour
is known all that time, but a stream's record of it would be an hour old, and what is older than
``max_age_s`` counts as absent. So the edge, which knows that the connection lives, repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusion.plant import NANOSECONDS
from fusion.ports import Reading

REPEATS_PER_AGE = 2
"""In each ``max_age_s``: one that is lost on the way does not make a tag absent."""


class Held:
    """The newest reading of each tag of one stream."""

    def __init__(self, max_age_s: float) -> None:
        self._interval_ns = round(max_age_s / REPEATS_PER_AGE * NANOSECONDS)
        self._newest: dict[str, Reading] = {}
        self._t_next_ns = 0

    def note(self, readings: Iterable[Reading]) -> None:
        """Take what was said, in any order of times: the newest holds.

        What is dated later than the receipt of something after it was dated by a clock that was
        ahead. It gives way, or a wrong year said once would hold for ever.
        """
        for reading in readings:
            before = self._newest.get(reading.tag)
            if (
                before is None
                or reading.t_source_ns >= before.t_source_ns
                or before.t_source_ns > reading.t_receive_ns
            ):
                self._newest[reading.tag] = reading

    def repeat(self, t_ns: int, *, t_receive_ns: int) -> list[Reading]:
        """Return, as of ``t_ns``, what was not said for half of ``max_age_s`` before.

        They have the same time, so that they are one row. ``t_receive_ns`` is this machine's time
        at which it is known that they hold.
        """
        if t_ns < self._t_next_ns <= t_ns + self._interval_ns:
            return []  # (Looked at a moment ago; a clock that stepped back is looked at anew.)
        self._t_next_ns = t_ns + self._interval_ns // 4
        due = [
            held._replace(t_source_ns=t_ns, t_server_ns=t_ns, t_receive_ns=t_receive_ns)
            for held in self._newest.values()
            if t_ns - held.t_source_ns >= self._interval_ns
        ]
        self.note(due)
        return due
