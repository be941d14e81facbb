"""What a contestant is told on its command line, and the one line that it answers.

Only the standard library: contestants run in environments of their own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Read ``num_records`` of ``topics`` again and again for at least ``min_seconds``."""

    bootstrap: str
    topics: list[str]
    num_records: int
    min_seconds: float
    group: str
    plants: list[str]
    """Plant files (JSON), for those who need to know the streams."""

    def to_argument(self) -> str:
        """Return the job for a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_command_line(cls) -> Job:
        """Return the job that this process was started with."""
        return cls(**json.loads(sys.argv[1]))


@dataclass(frozen=True)
class Answer:
    """What was read, in how much time. ``num_closed`` counts what came out at the other end."""

    num_records: int
    num_bytes: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    num_closed: int = 0

    def tell(self) -> None:
        """Print the answer as one line of JSON."""
        print(json.dumps(dataclasses.asdict(self)), flush=True)


Took = tuple[int, int, int]
"""Records and bytes that one poll brought, and results that came out of it."""


def measure(job: Job, *, restart: Callable[[], None], step: Callable[[], Took]) -> Answer:
    """Return the sum of as many passes as ``job`` wants.

    ``restart`` goes back to the beginning, ``step`` takes one poll. The clock runs from the first
    poll that brings something to the last, and that first poll's records do not count: how long a
    client waits for its first answer is not how fast it reads.
    """
    passes = [_one_pass(job.num_records, restart, step)]
    while sum(each.seconds for each in passes) < job.min_seconds:
        passes.append(_one_pass(job.num_records, restart, step))
    return Answer(
        num_records=sum(each.num_records for each in passes),
        num_bytes=sum(each.num_bytes for each in passes),
        seconds=sum(each.seconds for each in passes),
        cpu_seconds=sum(each.cpu_seconds for each in passes),
        peak_rss_mb=peak_rss_mb(),
        num_closed=sum(each.num_closed for each in passes),
    )


def _one_pass(wanted: int, restart: Callable[[], None], step: Callable[[], Took]) -> Answer:
    restart()
    num_first = 0
    while not num_first:
        num_first, _, _ = step()
    num_records = num_bytes = num_closed = 0
    cpu_s, began_s = time.process_time(), time.perf_counter()
    while num_first + num_records < wanted:
        records, size, closed = step()
        num_records += records
        num_bytes += size
        num_closed += closed
    seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Answer(num_records, num_bytes, seconds, cpu_s, 0.0, num_closed)


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held, in MB.

    Not ``getrusage``: its figure starts at that of the process which started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")
