"""Tells people away from the screen: follows the journal, hands notices over.

One file holds everything that must survive a restart: how far the journal was read, who waits for
an answer, and what was not handed over yet. It is on disk before anything is sent, so a notice is
handed over at least once, and a receiver can tell repeats by their id.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows import wiring
from flows.notices import Outbox, Say
from flows.settings import Settings
from fusion.alarms.channels import Notifications, parse_notifications
from fusion.alarms.routing import Router, Told
from fusion.errors import BrokerUnavailableError, InputError, NotifierUnavailableError
from fusion.plant import Plant
from fusion.ports import Clock, Notice, Notifier, Source
from fusion.schema import AlarmEvent, Record, TopicPartition

POLL_TIMEOUT_S = 0.5
PROBE_POLLS = 10
"""After so many polls without a line the broker is asked whether it is there."""
BROKER_PAUSE_S = 2.0
TELL_EVERY_S = 0.5


class Notifying:
    """The journal of a plant's prefix, its router, and the file that both are kept in."""

    def __init__(self, path: Path, router: Router, outbox: Outbox, clock: Clock, say: Say) -> None:
        self._path, self._router, self.outbox = path, router, outbox
        self._clock, self._say = clock, say
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._num_silent = 0
        self._may_tell = False
        # One thread reads, which may wait long for a broker; another one tells meanwhile.
        self._lock = threading.RLock()
        if path.is_file():
            self._restore(path)

    def begin(self, source: Source) -> None:
        """Go on where reading ended; where the broker no longer has that, at its first line."""
        starts, ends = source.start_offsets(), source.end_offsets()
        self._ends, self._num_silent, self._may_tell = ends, 0, False
        source.seek(
            {
                part: at
                if starts.get(part, 0) <= (at := self._positions.get(part, -1)) <= end
                else starts.get(part, 0)
                for part, end in ends.items()
            }
        )

    def step(self, source: Source) -> None:
        """Read on; once all that was there at the start has been read, hand over what is due.

        Not before: what was answered meanwhile need not be told.
        """
        records = source.poll(timeout_s=POLL_TIMEOUT_S)
        at = source.positions()
        with self._lock:
            for record in records:
                self._follow(record)
            if records:
                self._positions = at
                self._save()
        self._num_silent = 0 if records else self._num_silent + 1
        if self._num_silent >= PROBE_POLLS:
            source.end_offsets()  # a broker that is away is silent too: this it must answer
            self._num_silent = 0
        if all(at.get(part, 0) >= end for part, end in self._ends.items()):
            self._may_tell = True
            self.tell()

    def broker_is_away(self) -> None:
        """Go on telling: nobody knows what was answered meanwhile."""
        self._may_tell = True

    def tell(self) -> None:
        """Hand over what is due, and what was not taken before."""
        # (Between two notices the journal is followed: somebody may have answered.)
        while self._tell_next():
            pass

    def _tell_next(self) -> bool:
        """Hand each channel its next notice; whether any was taken."""
        with self._lock:
            if not self._may_tell:
                return False
            due = self._router.due(self._clock.now_ns())
            for told in due:
                self.outbox.put(told)
            if self.outbox.drop_answered(self._router) or due:
                self._save()
            if is_taken := self.outbox.send():
                self._save()
            return is_taken

    def close(self) -> None:
        """Wait for the channels that are handed something now, and keep what they took."""
        with self._lock:
            if self.outbox.close():
                self._save()

    def _follow(self, record: Record) -> None:
        try:
            event = AlarmEvent.model_validate_json(record.value)
        except ValidationError:
            self._say(f"a line of the journal cannot be read: {record.topic} at {record.offset}")
            return
        num_let_go = self._router.num_let_go
        for told in self._router.follow(event, self._clock.now_ns()):
            self.outbox.put(told)
        if self._router.num_let_go > num_let_go:
            self._say(f"too many alarms wait at once: {self._router.num_let_go} are not repeated")

    def _save(self) -> None:
        kept = {
            "positions": [[p.topic, p.partition, at] for p, at in self._positions.items()],
            "waiting": self._router.snapshot(),
            "outbox": [asdict(told) for told in self.outbox.waiting.values()],
        }
        beside = self._path.with_suffix(".tmp")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def _restore(self, path: Path) -> None:
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self._positions = {TopicPartition(t, n): at for t, n, at in kept["positions"]}
            self._router.restore(kept["waiting"])
            told = [Told(e["channel"], Notice(**e["notice"]), e["event"]) for e in kept["outbox"]]
        except (ValueError, KeyError, TypeError) as broken:
            raise InputError(
                f"{path} must be what `fusion alarms notify` left there, but {broken}; remove it: "
                "what waits for an answer is told again then"
            ) from broken
        for each in told:
            if self.outbox.has_channel(each.channel):
                self.outbox.put(each)


def load_notifications(path: Path) -> Notifications:
    """Return what the file at ``path`` says of channels and routes.

    Raises:
        InputError: It cannot be read, or breaks rules; the message lists each.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise InputError(
            f"a file of notifications must be readable UTF-8 text; {path}: {unreadable}; "
            "docs/alarms.md shows one"
        ) from unreadable
    return parse_notifications(text, origin=str(path))


def notify_people(
    plant: Plant,
    settings: Settings,
    notifications: Notifications,
    notifiers: Mapping[str, Notifier],
    *,
    should_stop: Callable[[], bool],
    say: Say,
) -> None:
    """Tell people of the alarms of every plant of the prefix, until ``should_stop``.

    Raises:
        InputError: Another process does so already, or the file is not its own.
    """
    clock = wiring.open_clock()
    path = settings.data_dir / f"notify-{plant.prefix}.json"
    with _alone(path):
        router, outbox = Router(notifications.routes), Outbox(notifiers, clock, say)
        notifying = Notifying(path, router, outbox, clock, say)

        def read() -> None:
            while not should_stop():
                try:
                    with contextlib.closing(_open_journal(plant, settings)) as source:
                        notifying.begin(source)
                        while not should_stop():
                            notifying.step(source)
                except BrokerUnavailableError as away:
                    say(f"the broker is away, so answers are not heard: {away}")
                    notifying.broker_is_away()
                    clock.sleep(BROKER_PAUSE_S)

        with (
            contextlib.closing(notifying),
            ThreadPoolExecutor(1, "notify-reader") as reader,
        ):
            reading = reader.submit(read)
            # A client can wait for half a minute for a broker that is gone: nobody is told later
            # for that.
            while not reading.done():
                notifying.tell()
                clock.sleep(TELL_EVERY_S)
        reading.result()


def try_channels(notifiers: Mapping[str, Notifier], *, t_ns: int, say: Say) -> bool:
    """Send a notice that says it is a test to every channel; whether all took it."""
    is_taken = True
    for name, notifier in notifiers.items():
        words = "This is a test. No alarm stands behind it."
        notice = Notice(f"test:{name}:{t_ns}", f"test of {name}", words, "low", "", "test", t_ns)
        try:
            notifier.notify(notice)
            say(f"{name} took it")
        except NotifierUnavailableError as away:
            is_taken = False
            say(f"{name} did not: {away}")
    return is_taken


def _open_journal(plant: Plant, settings: Settings) -> Source:
    wiring.prepare_topics(settings, plant)
    return wiring.open_source(
        settings, [plant.topic("alarm-events")], f"alarm-notify-{plant.prefix}"
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"only one process may tell people, and another one holds {path}; stop it first"
            ) from None
        yield
