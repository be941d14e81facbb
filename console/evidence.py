"""Evidence of alarms, looked up once: it takes a second or two, and many may ask at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from console.ports import Evidence, Witness
from fusion.errors import InputError
from fusion.schema import AlarmEvent

_Made = TypeVar("_Made")
MAX_KEPT = 24
MAX_WAITING = 16


class EvidenceCache:
    """The newest evidence that was asked for; one thread looks it up, in the order of asking."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._thread = ThreadPoolExecutor(1, "console-evidence")
        self._kept: OrderedDict[str, Evidence] = OrderedDict()
        self._asked: dict[str, asyncio.Future[Evidence]] = {}
        self._num_running = 0

    async def look(self, event: AlarmEvent, *, quiet_ns: int | None) -> Evidence:
        """Return what was seen and heard when ``event`` raised its alarm.

        Raises:
            InputError: Nothing is left of that time, or too many wait for such an answer.
            FusionError: Something that is needed is away; ask again.
        """
        if event.id in self._kept:
            self._kept.move_to_end(event.id)
            return self._kept[event.id]
        if event.id not in self._asked:
            if len(self._asked) >= MAX_WAITING:
                raise InputError(
                    f"at most {MAX_WAITING} alarms are looked up at a time; ask again in a minute"
                )
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(
                self._thread, partial(self._witness.look, event, quiet_ns=quiet_ns)
            )
            self._asked[event.id] = asked
            asked.add_done_callback(lambda done: self._keep(event.id, done))
        return await asyncio.shield(self._asked[event.id])

    async def run(self, work: Callable[[], _Made]) -> _Made:
        """Return what ``work`` makes, in its turn in the same thread: heavy work waits in a line.

        Raises:
            InputError: Too many wait already.
        """
        if len(self._asked) + self._num_running >= MAX_WAITING:
            raise InputError(f"at most {MAX_WAITING} may wait for an answer; ask again in a minute")
        self._num_running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._num_running -= 1

    def close(self) -> None:
        """Wait for what is looked up now; nothing else is begun."""
        self._thread.shutdown(cancel_futures=True)

    def _keep(self, event_id: str, done: asyncio.Future[Evidence]) -> None:
        del self._asked[event_id]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[event_id] = done.result()
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
