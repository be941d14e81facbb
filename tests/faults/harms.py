"""What is done to a run. Each kind is a function; all end with everything read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tests.conftest import S3Server
from tests.faults.brokers import FullDiskBroker
from tests.faults.clocks import ClockStep
from tests.faults.disks import lake_disk_full, spool_disk_full
from tests.faults.member import DONE, PLACES
from tests.faults.run import SIGKILL_STATUS, Run

CLOCK_STEPS_S = (2.0, 90.0, 1_800.0, 50_000.0, 700_000.0)
Ground = Literal["shared", "fragile", "cluster", "small disk"]
"""Which broker: one that stays well and serves several runs at once, or one to be harmed."""


@dataclass(frozen=True)
class Kind:
    """One kind of harm, where it can be done, and how many runs of a full campaign have it."""

    name: str
    harm: Callable[[Run], None]
    num_runs: int
    ground: Ground = "shared"
    store: Literal["folder", "s3"] | None = None
    """Where large records lie; None: none is claimed."""
    may_miss_claims: bool = False
    sends_itself: bool = False
    """Nothing is on the broker before, and no poison is sent: the harm is done to the sender."""
    fills: bool = False
    """Fills a disk of this run's own."""
    about: str = ""

    @property
    def mounts(self) -> bool:
        """Whether it needs the right to mount a small disk."""
        return self.fills or self.ground == "small disk"


def unharmed(run: Run) -> None:
    """Nothing."""
    run.to_the_end()


def poisoned(run: Run) -> None:
    """Nothing but poison, and work in pieces of another size."""
    run.to_the_end()


def killed_at(place: str) -> Callable[[Run], None]:
    """SIGKILL at a certain place, one to three times, at a random call of it."""

    def harm(run: Run) -> None:
        for _ in range(run.rng.randint(1, 3)):
            at_call = run.rng.randint(1, 6)
            process = run.start(kill_after=place, kill_at_call=at_call)
            if run.finish(process) == SIGKILL_STATUS:
                run.report.num_kills += 1
                run.note_harm()
                run.report.notes.append(f"call {at_call}")
        run.to_the_end()

    return harm


def killed_at_any_time(run: Run) -> None:
    """SIGKILL from outside, at a random moment of its life, its start included."""
    for _ in range(run.rng.randint(1, 3)):
        process = run.start()
        process.join(run.rng.uniform(0.3, 5.0))
        run.kill(process)
    run.to_the_end()


def clock_set(run: Run) -> None:
    """The clock of the machine is set, back or ahead, by seconds to days, while it works."""
    steps: list[ClockStep] = []
    after_s = 0.0
    for _ in range(run.rng.randint(2, 6)):
        after_s += run.rng.uniform(0.05, 1.0)
        steps.append(ClockStep(after_s, run.rng.choice([-1, 1]) * run.rng.choice(CLOCK_STEPS_S)))
    run.report.notes.append(", ".join(f"{step.offset_s:+.0f} s" for step in steps))
    # What a poll brings is said at once, so that a word which a clock holds back can be seen.
    run.to_the_end(clock_steps=steps, say_every_s=0.0)
    run.require_small_steps()


def rebalance_storm(run: Run) -> None:
    """Members come and go, some by their own will, some killed, some under their old name."""
    until_s = time.monotonic() + run.rng.uniform(8, 14)
    members: dict[str, BaseProcess] = {}
    while time.monotonic() < until_s:
        name = run.rng.choice(["one", "two", "three", ""])
        present = members.get(name)
        if present is None or present.exitcode is not None:
            settings = run.settings.model_copy(update={"replica": name})
            leave_after_s = run.rng.choice([None, run.rng.uniform(1, 6)])
            members[name] = run.start(settings=settings, leave_after_s=leave_after_s)
        elif run.rng.random() < 0.5:
            run.kill(present)
        time.sleep(run.rng.uniform(0.2, 1.2))
    for process in members.values():
        run.kill(process)
    # Names that never come back keep their partitions until their session has ended.
    run.to_the_end(settings=run.settings.model_copy(update={"replica": "one"}))


def broker_killed(run: Run) -> None:
    """SIGKILL of a broker in the middle, and its restart a little later."""
    process = run.start(is_patient=True)
    for _ in range(run.rng.randint(1, 2)):
        if not run.wait_for_steps(process, run.rng.randint(1, 6)):
            break
        run.report.notes.append(run.place.broker.kill(run.rng))
        run.report.num_outages += 1
        time.sleep(run.rng.uniform(0.1, 3.0))
        run.place.broker.start()
        run.note_harm()
    _finish(run, process)


def node_down(run: Run) -> None:
    """SIGKILL of one of three brokers; it stays away for a while, the others go on."""
    process = run.start(is_patient=True)
    if run.wait_for_steps(process, run.rng.randint(1, 6)):
        run.report.notes.append(run.place.broker.kill(run.rng))
        run.report.num_outages += 1
        run.note_harm()
        process.join(run.rng.choice([1.0, 5.0, 60.0]))
        run.place.broker.start()
    _finish(run, process)


def broker_and_process_killed(run: Run) -> None:
    """SIGKILL of both: what one knew and the other had not stored yet is gone together."""
    process = run.start(is_patient=True)
    if run.wait_for_steps(process, run.rng.randint(1, 6)):
        run.place.broker.kill(run.rng)
        run.report.num_outages += 1
        process.kill()
        process.join()
        run.report.num_kills += 1
        run.place.broker.start()
        run.note_harm()
    run.to_the_end()


def disk_full(run: Run) -> None:
    """The broker's disk is full to the last byte; it gives up, gets room, and is started again."""
    broker = run.place.broker
    assert isinstance(broker, FullDiskBroker)
    process = run.start(is_patient=True)
    if run.wait_for_steps(process, run.rng.randint(1, 6)):
        broker.disk.fill()
        run.report.num_outages += 1
        if not broker.wait_until_halted():
            run.report.notes.append("the broker did not halt")
            broker.kill(run.rng)
        broker.disk.free()
        broker.start()
        run.note_harm()
    _finish(run, process)


def store_away(away_s: tuple[float, float]) -> Callable[[Run], None]:
    """The store of large records does not answer for a while."""

    def harm(run: Run) -> None:
        process = run.start(is_patient=True)
        if run.wait_for_steps(process, run.rng.randint(1, 4)):
            with _store_taken_away(run):
                run.report.num_outages += 1
                process.join(run.rng.uniform(*away_s))
            run.note_harm()
        _finish(run, process)

    return harm


def _store_taken_away(run: Run) -> AbstractContextManager[None]:
    return _server_stopped(run.place.store) if run.place.store else _folder_renamed(run)


@contextlib.contextmanager
def _server_stopped(server: S3Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def _folder_renamed(run: Run) -> Iterator[None]:
    folder = Path(run.settings.objects_uri)
    elsewhere = folder.with_suffix(".away")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


def _finish(run: Run, process: BaseProcess) -> None:
    if run.finish(process) != DONE:
        run.to_the_end()


def _killed() -> list[Kind]:
    places = {
        "poll": ("killed after poll", "records are read, nothing is done with them"),
        "decode": ("killed after decode", "decoded and aligned, not scored"),
        "score": ("killed after score", "scored, nothing said"),
        "produce": ("killed after produce", "scores and alarms sent, their transaction open"),
        "commit": ("killed before the commit", "offsets are in the open transaction too"),
        "committed": ("killed after the commit", "all is said, and this process never knows"),
    }
    assert set(places) == set(PLACES)
    return [
        Kind(name, killed_at(place), 14, about=about) for place, (name, about) in places.items()
    ]


UNHARMED = Kind("unharmed", unharmed, 0, about="what the others are held against")
KINDS = [
    *_killed(),
    Kind(
        "killed at any time",
        killed_at_any_time,
        14,
        about="from outside, at any moment of its life, its start included",
    ),
    Kind(
        "rebalance storm",
        rebalance_storm,
        12,
        about="up to four processes come and go for 8 to 14 s, half of them killed",
    ),
    Kind("every kind of poison", poisoned, 6, about="nothing else, in other portions"),
    Kind(
        "store of large records away",
        store_away((0.5, 8.0)),
        6,
        store="s3",
        about="a server that speaks S3 is stopped for up to 8 s",
    ),
    Kind(
        "folder of large records away",
        store_away((0.5, 8.0)),
        8,
        store="folder",
        about="it has another name for up to 8 s, as if it were not mounted",
    ),
    Kind(
        "store away for too long",
        store_away((36.0, 40.0)),
        5,
        store="s3",
        may_miss_claims=True,
        about="longer than the patience of 30 s",
    ),
    Kind(
        "broker killed",
        broker_killed,
        16,
        "fragile",
        about="once or twice, and started again up to 3 s later",
    ),
    Kind(
        "broker and process killed",
        broker_and_process_killed,
        10,
        "fragile",
        about="both at once",
    ),
    Kind(
        "broker's disk full",
        disk_full,
        10,
        "small disk",
        about="to the last byte; Kafka halts, gets room, is started again",
    ),
    Kind(
        "one of three brokers down",
        node_down,
        12,
        "cluster",
        about="replication 3, a write is on 2; back after 1, 5 or 60 s, or when all is read",
    ),
    Kind(
        "clock set",
        clock_set,
        9,
        about="two to six times, by 2 s to 8 days, back or ahead",
    ),
    Kind(
        "sender's disk full",
        spool_disk_full,
        7,
        "fragile",
        sends_itself=True,
        fills=True,
        about="while the broker is away; then one gets well, later the other",
    ),
    Kind(
        "lake's disk full",
        lake_disk_full,
        7,
        fills=True,
        about="once or twice while it is filled, half of the writers are killed then",
    ),
]
