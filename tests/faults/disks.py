"""The sender's disk and the lake's disk are full to the last byte, and get room again."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

from flows import wiring
from flows.settings import Settings
from fusion.errors import SpoolFullError
from fusion.schema import Message, Record
from fusion.stream.reading import read_to_end
from fusion.stream.spool import SpoolingPublisher
from tests.faults.brokers import SmallDisk
from tests.faults.ingester import REFUSED, STORED, IngestOrders, ingest
from tests.faults.member import DONE
from tests.faults.run import Run

DISK_MB = 32
PATIENCE_S = 60.0
_Told = tuple[object, ...]


def spool_disk_full(run: Run) -> None:
    """The broker is away and the sender's disk is full; then the one comes back, then the other."""
    wiring.prepare_topics(run.settings, run.plants[0])
    folder = run.folder_named("spool")
    settings = run.settings.model_copy(update={"spool_dir": folder})
    before, away = run.rng.randint(0, 60), run.rng.randint(20, 120)
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(folder, size_mb=DISK_MB))
        sender = stack.enter_context(contextlib.closing(_Sender(run.messages, settings)))
        sender.send(before)
        sender.drain()
        run.place.broker.kill(run.rng)
        run.report.num_outages += 1
        sender.send(away)
        disk.fill()
        sender.send_until_refused()
        run.report.num_outages += 1
        mends: list[Callable[[], None]] = [disk.free, run.place.broker.start]
        run.rng.shuffle(mends)
        for mend in mends:
            mend()
            sender.wait(run.rng.uniform(0.1, 2.0))
        if run.rng.random() < 0.5:
            sender.restart()
        sender.send(len(run.messages))
        sender.drain()
    run.report.notes.append(f"{before} before, {away} away, {sender.num_refused} refused")
    _judge_sent(run)
    run.to_the_end()


def _judge_sent(run: Run) -> None:
    """Hold what is on the broker against what the spool has taken: each message once."""
    given = Counter(_said(message) for message in run.messages)
    found = Counter(_said(record) for record in _on_broker(run))
    _note(run, "broker", given - found, found - given)


class _Sender:
    """Sends messages through the product's spool, each again until it is taken."""

    def __init__(self, messages: Sequence[Message], settings: Settings) -> None:
        self._left = list(messages)
        self._settings = settings
        self._spool = self._open()
        self.num_refused = 0

    def close(self) -> None:
        """End; what waits stays on the disk."""
        self._spool.close()

    def restart(self) -> None:
        """End, and begin again with what is on the disk."""
        self._spool.close()
        self._spool = self._open()

    def _open(self) -> SpoolingPublisher:
        return wiring.open_spool(self._settings, "campaign")

    def send(self, count: int) -> None:
        """Send the next ``count`` messages, as many as there are."""
        until_s = time.monotonic() + PATIENCE_S
        for _ in range(min(count, len(self._left))):
            while not self._is_taken(self._left[0]):
                assert time.monotonic() < until_s, f"refused for ever: {self._spool.last_error}"
                time.sleep(0.02)
            self._left.pop(0)

    def send_until_refused(self) -> None:
        """Send until the disk takes no more."""
        while self._is_taken(self._left[0]):
            self._left.pop(0)
            assert self._left, "everything was taken by a disk that is full"

    def wait(self, duration_s: float) -> None:
        """Let the spool do what it can in ``duration_s``."""
        self._spool.flush(duration_s)

    def drain(self) -> None:
        """Wait until everything that was taken is on the broker."""
        assert self._spool.flush(PATIENCE_S), f"something waits still: {self._spool.last_error}"

    def _is_taken(self, message: Message) -> bool:
        try:
            self._spool.publish([message])
        except SpoolFullError:
            self.num_refused += 1
            return False
        return True


def lake_disk_full(run: Run) -> None:
    """The lake's disk is full while it is filled, beside the live process; some are killed."""
    process = run.start(is_patient=True)
    folder = run.folder_named("lake")
    settings = run.settings.model_copy(update={"data_dir": folder})
    orders = IngestOrders(
        settings, run.plants[0].sense_topics, said=run.folder_named("ingest").with_suffix(".said")
    )
    with SmallDisk(folder, size_mb=DISK_MB) as disk:
        ingesting = run.start_other(ingest, orders)
        for _ in range(run.rng.randint(1, 2)):
            if not _has_said(ingesting, orders, STORED, run.rng.randint(1, 4)):
                break
            disk.fill()
            run.report.num_outages += 1
            if not _has_said(ingesting, orders, REFUSED, run.rng.randint(1, 4)):
                run.report.faults.append("the lake took everything on a disk that is full")
            if run.rng.random() < 0.5:
                run.kill(ingesting)
                ingesting = run.start_other(ingest, orders)
            disk.free()
        if run.finish(ingesting) != 0:
            run.report.faults.append(f"the ingest ended with status {ingesting.exitcode}")
        _judge_lake(run, settings)
    if run.finish(process) != DONE:
        run.to_the_end()


def _has_said(process: BaseProcess, orders: IngestOrders, word: str, count: int) -> bool:
    """Return once ``process`` has said ``word`` so often more; False when it has ended before."""
    wanted = _times_said(orders, word) + count
    while process.exitcode is None:
        if _times_said(orders, word) >= wanted:
            return True
        time.sleep(0.02)
    return False


def _times_said(orders: IngestOrders, word: str) -> int:
    if not orders.said.exists():
        return 0
    lines = orders.said.read_text(encoding="utf-8").splitlines()
    return sum(line.startswith(word) for line in lines)


def _judge_lake(run: Run, settings: Settings) -> None:
    """Hold what the lake has against what is on the broker: each record once, byte for byte."""
    sent = Counter(_kept(record) for record in _on_broker(run))
    stored = wiring.open_lake(settings).read(run.plants[0].sense_topics)
    kept = Counter(_kept(record) for record in stored)
    run.report.notes.append(f"{kept.total()} records in the lake")
    _note(run, "lake", sent - kept, kept - sent)


def _on_broker(run: Run) -> list[Record]:
    topics = run.plants[0].sense_topics
    with contextlib.closing(wiring.open_source(run.settings, topics, "judge")) as source:
        return list(read_to_end(source))


def _note(run: Run, where: str, missing: Counter[_Told], extra: Counter[_Told]) -> None:
    run.report.num_lost += missing.total()
    run.report.num_doubled += extra.total()
    for what, found in (("lost", missing), ("too many", extra)):
        if found:
            first = [told[:3] for told in list(found)[:5]]
            run.report.faults.append(f"{where}: {found.total()} {what}, such as {first}")


def _said(each: Message | Record) -> _Told:
    return (each.topic, each.headers["ce_id"], each.key, *_content(each))


def _kept(record: Record) -> _Told:
    # Of a key that is no text the lake keeps a mark; all else must be what it was.
    position = (record.topic, record.partition, record.offset)
    return (*position, record.t_broker_ns, *_content(record))


def _content(each: Message | Record) -> tuple[object, ...]:
    return (hashlib.sha256(each.value).digest(), *sorted(each.headers.items()))
