"""When a frame or a sample was captured, from what RTP and its receiver know.

RTCP sender reports (RFC 3550, 6.4.1) tie the stream's own count to the sender's wall clock; FFmpeg
gives that as the real time of presentation time 0. Without them, the least delay seen between
count and receipt ties them: the way only ever adds.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_RELAX = 200e-6
"""How fast the least delay is forgotten: two crystals differ by less."""
_MICROSECOND_NS = 1_000


class CaptureTime:
    """Turns presentation times into times of capture.

    Args:
        start_realtime_us: Asks FFmpeg for the real time of presentation time 0; None or 0 when no
            report has come yet.
    """

    def __init__(self, start_realtime_us: Callable[[], int | None]) -> None:
        self._start_realtime_us = start_realtime_us
        self._offset_ns: int | None = None
        self._t_offset_ns = 0

    @property
    def is_sent(self) -> bool:
        """Whether the sender says its times, or they are estimated here."""
        return bool(self._start_realtime_us())

    def ns(self, presentation_ns: int, *, t_receive_ns: int) -> int:
        """Return when what is presented at ``presentation_ns`` was captured."""
        start_us = self._start_realtime_us()
        if start_us:
            return start_us * _MICROSECOND_NS + presentation_ns
        offset_ns = t_receive_ns - presentation_ns
        if self._offset_ns is None:
            self._offset_ns = offset_ns
        else:
            relaxed_ns = round((t_receive_ns - self._t_offset_ns) * MAX_RELAX)
            self._offset_ns = min(offset_ns, self._offset_ns + max(0, relaxed_ns))
        self._t_offset_ns = t_receive_ns
        return presentation_ns + self._offset_ns
