"""The one reader of the topics in a console: broker → picture, in a thread of its own.

Records are decoded in the thread and applied in the event loop, a poll at a time; the thread waits
until they are applied, so nothing piles up. While the broker is away the picture stays as it was,
and says since when.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence

from console.bell import Bell
from console.delivery import Delivery
from console.picture import Picture
from console.ports import Ports
from console.topics import Change, Understanding, first_offsets, topics_of
from fusion.errors import BrokerUnavailableError, InputError
from fusion.ports import Source

POLL_TIMEOUT_S = 0.2
PROBE_POLLS = 10
"""After so many polls without a record the broker is asked whether it is there."""
PATIENCE_NS = 5_000_000_000
PAUSES_S = (0.5, 1.0, 2.0, 5.0)
LOG = logging.getLogger(__name__)


class Reader:
    """Keeps a picture up to date. ``start`` and ``close`` belong to the event loop."""

    def __init__(self, ports: Ports, bell: Bell, delivery: Delivery) -> None:
        self._ports, self._bell, self._delivery = ports, bell, delivery
        self.picture = Picture(ports.plants)
        self._understanding = Understanding(ports.plants)
        self._away_since_ns: int | None = None
        self._heard: tuple[int, int] | None = None
        """When the broker last answered: by the monotonic clock, and by the other."""
        self.num_unreadable = 0
        """Records that this version cannot read."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-reader", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def away_since_ns(self) -> int | None:
        """Since when the broker has not answered; None while it does, or before it ever did."""
        if self._away_since_ns is not None or self._heard is None:
            return self._away_since_ns
        monotonic_ns, heard_ns = self._heard
        is_late = self._ports.clock.monotonic_ns() - monotonic_ns > PATIENCE_NS
        return heard_ns if is_late else None

    @property
    def is_running(self) -> bool:
        """Whether the thread that reads is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Stop reading and free the broker."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        num_vain = 0
        while not self._stop.is_set():
            try:
                with contextlib.closing(
                    self._ports.open_source(topics_of(self._ports.plants))
                ) as source:
                    num_vain = 0
                    self._follow(source)
            except BrokerUnavailableError as away:
                self._note_away(str(away))
            except InputError as anew:  # a topic was deleted and made anew
                self._note_away(str(anew))
            self._stop.wait(PAUSES_S[min(num_vain, len(PAUSES_S) - 1)])
            num_vain += 1

    def _follow(self, source: Source) -> None:
        """Read everything into a new picture, show it once it is complete, and keep it up."""
        ends = source.end_offsets()
        source.seek(first_offsets(source.start_offsets(), ends))
        picture = Picture(self._ports.plants)
        is_shown, num_silent = False, 0
        while not self._stop.is_set():
            records = source.poll(timeout_s=POLL_TIMEOUT_S)
            num_silent = 0 if records else num_silent + 1
            if num_silent >= PROBE_POLLS:
                source.end_offsets()  # a broker that is away is silent too: this it must answer
                num_silent = 0
            if num_silent == 0:
                clock = self._ports.clock
                self._heard = (clock.monotonic_ns(), clock.now_ns())
            changes = [self._understanding.change_of(record) for record in records]
            self.num_unreadable += changes.count(None)
            positions = source.positions()
            is_whole = all(positions.get(part, 0) >= end for part, end in ends.items())
            self._in_loop(functools.partial(_apply, picture, changes))
            if is_whole and not is_shown:
                is_shown = True
                self._in_loop(functools.partial(self._show, picture))
            elif is_shown and records:
                self._in_loop(self._ring)

    def _ring(self) -> None:
        picture = self.picture
        now_ns = self._ports.clock.monotonic_ns()
        self._delivery.changed(picture.epoch, picture.revision, now_ns=now_ns)
        self._bell.ring()

    def _show(self, picture: Picture) -> None:
        picture.is_complete = True
        self.picture, self._away_since_ns = picture, None
        self._ring()

    def _note_away(self, why: str) -> None:
        LOG.warning("the console waits for the broker: %s", why)

        def note() -> None:
            heard_ns = self._ports.clock.now_ns() if self._heard is None else self._heard[1]
            self._away_since_ns = self._away_since_ns or heard_ns
            self._bell.ring()

        self._in_loop(note)

    def _in_loop(self, work: Callable[[], None]) -> None:
        """Do ``work`` in the event loop and wait for it."""
        assert self._loop is not None, "a reader is started before it reads"

        async def do() -> None:
            work()

        if self._stop.is_set() or self._loop.is_closed():
            return
        done = asyncio.run_coroutine_threadsafe(do(), self._loop)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                done.result(timeout=0.5)
                return


def _apply(picture: Picture, changes: Sequence[Change | None]) -> None:
    for change in changes:
        if change is not None:
            change(picture)
