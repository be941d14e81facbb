"""Notices on their way to people: each channel in a thread of its own, so that none waits for one.

A webhook that does not answer takes ten seconds to say so; meanwhile the mail goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fusion.alarms.routing import Router, Told
from fusion.errors import NotifierUnavailableError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock, Notifier

PAUSES_S = (5.0, 15.0, 60.0, 300.0)
"""A channel that did not take a notice is left alone for so long."""
GRACE_S = 0.2
"""Most channels answer within; those that do not are asked again later what came of it."""
Say = Callable[[str], None]


class Outbox:
    """What is to be handed over: of one alarm, route and channel only the newest notice.

    Belongs to one thread at a time; only the channels themselves are called from others.
    """

    def __init__(self, notifiers: Mapping[str, Notifier], clock: Clock, say: Say) -> None:
        self._notifiers, self._clock, self._say = notifiers, clock, say
        self.waiting: dict[str, Told] = {}
        self._threads = ThreadPoolExecutor(len(notifiers), "notify-channel")
        self._handed: dict[str, tuple[Told, Future[None]]] = {}
        """By channel: what it is handed now."""
        self._num_vain: dict[str, int] = {}
        self._again_ns: dict[str, int] = {}

    def put(self, told: Told) -> None:
        """Take one more; an older one of the same kind that nobody took is no longer news."""
        self.waiting[_kind(told)] = told

    def has_channel(self, name: str) -> bool:
        """Whether there still is such a channel."""
        return name in self._notifiers

    def drop_answered(self, router: Router) -> bool:
        """Take out what somebody has answered, or has ended; whether there was any."""
        over = [key for key, told in self.waiting.items() if not router.is_due(told)]
        for key in over:
            self._say(
                f"{self.waiting.pop(key).notice.name}: answered or over before it was handed over"
            )
        return bool(over)

    def send(self) -> bool:
        """Hand each channel that is free its next notice; whether anything was taken, as yet.

        A channel that is away is retried. Where something was taken there may be more to hand over.
        """
        is_taken = self._collect()
        if self._begin():
            under_way = [handed for _, handed in self._handed.values()]
            wait(under_way, GRACE_S, return_when=FIRST_COMPLETED)
            is_taken |= self._collect()
        return is_taken

    def close(self) -> bool:
        """Wait for what is on its way; whether anything was taken."""
        self._threads.shutdown()
        return self._collect()

    def _begin(self) -> bool:
        """Give every channel that is free and not left alone its next notice; whether one was."""
        num_before = len(self._handed)
        for told in self.waiting.values():
            channel = told.channel
            is_left_alone = self._clock.monotonic_ns() < self._again_ns.get(channel, 0)
            if channel not in self._handed and not is_left_alone:
                handed = self._threads.submit(self._notifiers[channel].notify, told.notice)
                self._handed[channel] = (told, handed)
        return len(self._handed) > num_before

    def _collect(self) -> bool:
        """Note what the channels said; whether anything was taken."""
        is_taken = False
        for channel, (told, handed) in list(self._handed.items()):
            if not handed.done():
                continue
            del self._handed[channel]
            try:
                handed.result()
            except NotifierUnavailableError as away:
                self._leave_alone(channel, str(away))
                continue
            self._num_vain.pop(channel, None)
            if self.waiting.get(_kind(told)) is told:  # (a newer one may have come meanwhile)
                del self.waiting[_kind(told)]
            is_taken = True
            self._say(f"told {channel}: {told.notice.subject}")
        return is_taken

    def _leave_alone(self, channel: str, why: str) -> None:
        num_vain = self._num_vain.get(channel, 0)
        pause_s = PAUSES_S[min(num_vain, len(PAUSES_S) - 1)]
        self._num_vain[channel] = num_vain + 1
        self._again_ns[channel] = self._clock.monotonic_ns() + round(pause_s * NANOSECONDS)
        self._say(f"{channel} again in {pause_s:.0f} s: {why}")


def _kind(told: Told) -> str:
    """Return what is the same for all notices of one alarm's wait, route and channel."""
    return told.notice.id.rpartition(":")[0]
