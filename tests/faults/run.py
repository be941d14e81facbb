"""One run of the campaign: where it happens, what it does, and what came of it."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import Message
from tests.conftest import S3Server
from tests.faults import member
from tests.faults.brokers import Broker
from tests.faults.member import AWAY, DONE, FENCED, Orders
from tests.faults.poisons import NUM_PARTITIONS

CONTEXT = multiprocessing.get_context("forkserver")
MEMBER_TIMEOUT_S = 240.0
SIGKILL_STATUS = -9
MAX_STARTS_TO_THE_END = 6


class StoppedError(Exception):
    """Somebody has ended the campaign."""


@dataclass
class Place:
    """Where runs happen: a broker, an object store, a model, a folder for what they write."""

    settings: Settings
    model_dir: Path
    folder: Path
    broker: Broker
    store: S3Server | None = None


@dataclass
class Report:
    """One run, and what came of it."""

    kind: str
    seed: int
    notes: list[str] = field(default_factory=list[str])
    num_starts: int = 0
    num_kills: int = 0
    """SIGKILLs of processes that watch."""
    num_outages: int = 0
    """Times that a service was away: broker, node, disk, store."""
    duration_s: float = 0.0
    num_records: int = 0
    num_commands: int = 0
    """Operators' commands that cannot be obeyed; every one must be dead-lettered."""
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    poisons: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """By kind of poison: how often sent, how often dead-lettered."""
    recoveries_s: list[float] = field(default_factory=list[float])
    """From each harm to the next transaction."""
    num_lost: int = 0
    num_doubled: int = 0
    faults: list[str] = field(default_factory=list[str])


class Members:
    """The processes of all runs; ending the campaign ends them."""

    def __init__(self) -> None:
        self._running: set[BaseProcess] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    def start(self, work: Callable[[Any], None], orders: object) -> BaseProcess:
        """Start ``work`` on ``orders`` as a process of its own."""
        with self._lock:
            if self._is_stopped:
                raise StoppedError
            process = CONTEXT.Process(target=work, args=(orders,), daemon=True)
            process.start()
            self._running = {other for other in self._running if other.exitcode is None}
            self._running.add(process)
        return process

    def stop(self) -> None:
        """Kill all, and start no more."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.kill()


class Run:
    """The live processes of one run, and the clock of its harms."""

    def __init__(
        self,
        place: Place,
        report: Report,
        files: Sequence[Path],
        members: Members,
        *,
        plants: Sequence[Plant] = (),
        messages: Sequence[Message] = (),
    ) -> None:
        self.place, self.report = place, report
        self.plants, self.messages = plants, messages
        self.rng = random.Random(f"{report.kind}-{report.seed}")
        self.settings = place.settings
        self._members = members
        self.log = place.folder / f"{report.kind}-{report.seed}.log"
        self._steps = place.folder / f"{report.kind}-{report.seed}.steps"
        self._harmed_s: list[float] = []
        self._orders: dict[str, Any] = {
            "plant_files": list(files),
            "model_dir": place.model_dir,
            "num_shards": NUM_PARTITIONS,
            "log": self.log,
            "steps": self._steps,
        }
        if report.kind != "unharmed":
            # However small the pieces that it works in, it must say the same.
            self._orders |= {
                "max_poll_records": self.rng.choice([10, 20, 40]),
                "say_every_s": self.rng.choice([0.0, 0.02, 0.1]),
            }

    def start(self, **changes: Any) -> BaseProcess:
        """Start a live process."""
        self.report.num_starts += 1
        orders: dict[str, Any] = {"settings": self.settings, **self._orders, **changes}
        return self._members.start(member.run, Orders(**orders))

    def start_other(self, work: Callable[[Any], None], orders: object) -> BaseProcess:
        """Start a process that does something beside the live ones."""
        self.report.num_starts += 1
        return self._members.start(work, orders)

    def finish(self, process: BaseProcess) -> int:
        """Wait for a live process, and return its exit status."""
        process.join(MEMBER_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            self.report.faults.append(f"a member did not end within {MEMBER_TIMEOUT_S:.0f} s")
            return SIGKILL_STATUS
        return process.exitcode

    def kill(self, process: BaseProcess) -> None:
        """SIGKILL a live process, unless it has ended already."""
        if process.exitcode is None:
            process.kill()
            self.report.num_kills += 1
            self.note_harm()
        process.join()

    def folder_named(self, name: str) -> Path:
        """Return a folder that only this run uses; it is not there yet."""
        return self.place.folder / f"{name}-{self.report.seed}"

    def to_the_end(self, **changes: Any) -> None:
        """Start live processes until one has read everything, of all partitions."""
        for _ in range(MAX_STARTS_TO_THE_END):
            status = self.finish(self.start(is_patient=True, **changes))
            if status == DONE:
                return
            if status not in {AWAY, FENCED}:
                self.report.faults.append(f"a member ended with status {status}")
                return
        self.report.faults.append(f"nobody came to the end in {MAX_STARTS_TO_THE_END} starts")

    def wait_for_steps(self, process: BaseProcess, count: int) -> bool:
        """Return once ``process`` is in the middle: after ``count`` more transactions.

        False when it has ended before.
        """
        wanted = self.num_steps() + count
        while process.exitcode is None:
            if self.num_steps() >= wanted:
                return True
            time.sleep(0.02)
        return False

    def num_steps(self) -> int:
        """Return how many transactions the live processes of this run have committed."""
        return len(self._step_times_s())

    def require_small_steps(self) -> None:
        """Note a fault where a transaction says more than one poll brought: it was held back."""
        most, allowed = max(self._step_sizes(), default=0), self._orders["max_poll_records"]
        if most > allowed:
            self.report.faults.append(f"one transaction says {most} records, a poll has {allowed}")

    def note_harm(self) -> None:
        """Recovery is counted from now."""
        self._harmed_s.append(time.monotonic())

    def recoveries_s(self) -> list[float]:
        """Return the time from each harm to the next transaction, where one was left to be made."""
        steps_s = self._step_times_s()
        nexts_s = [next((t for t in steps_s if t > at_s), None) for at_s in self._harmed_s]
        return [
            round(next_s - at_s, 3)
            for at_s, next_s in zip(self._harmed_s, nexts_s, strict=True)
            if next_s is not None
        ]

    def _step_times_s(self) -> list[float]:
        return sorted(float(line.split()[0]) for line in self._step_lines())

    def _step_sizes(self) -> list[int]:
        return [int(line.split()[1]) for line in self._step_lines()]

    def _step_lines(self) -> list[str]:
        if not self._steps.exists():
            return []
        return self._steps.read_text(encoding="utf-8").split("\n")[:-1]


def poison_table(sent: Counter[str], refused: Counter[str]) -> dict[str, list[int]]:
    """Return how often each kind of poison was sent, and how often dead-lettered."""
    return {kind: [count, refused[kind]] for kind, count in sorted(sent.items())}
